//! Settings that are one of a few words.

use mq_nsq::server::OptionValue;

use crate::config::value::Value;

/// Declares settings that are one of a few words, which they keep as they are written here.
macro_rules! choices {
    ($($(#[doc = $help:literal])+ $name:ident: $form:literal, $fold:expr, $switch:literal, $show:expr, [$($word:literal $(| $alias:literal)*),+];)+) => {$(
        $(#[doc = $help])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) &'static str);

        impl Value for $name {
            const FORM: &'static str = $form;
            const SWITCH: bool = $switch;

            fn parse(text: &str) -> Option<Self> {
                let fold: fn(&str) -> String = $fold;
                match fold(text).as_str() {
                    $($word $(| $alias)* => Some(Self($word)),)+
                    _ => None,
                }
            }

            fn show(&self) -> OptionValue {
                let show: fn(&str) -> OptionValue = $show;
                show(self.0)
            }
        }
    )+};
}

fn text(word: &str) -> OptionValue {
    OptionValue::Text(word.to_owned())
}

/// The number that stands for the word in nsqd.
fn number(number: u16) -> OptionValue {
    OptionValue::Json(number.to_string())
}

choices! {
    /// HTTP method of requests to auth servers; lower case, as nsqd wants it.
    AuthMethod: "get or post", str::to_owned, false, text, ["get", "post"];
    /// Policy on clients' certificates.
    CertificatePolicy: "require, require-verify, or nothing", str::to_owned, false, text,
        ["", "require", "require-verify"];
    /// Connections that have to use TLS.
    TlsRequired: "true, false or tcp-https", str::to_ascii_lowercase, true,
        |word| number(match word { "false" => 0, "tcp-https" => 1, _ => 2 }),
        ["false" | "f" | "0", "tcp-https", "true" | "t" | "1"];
    /// The lowest version of TLS.
    TlsVersion: "tls1.0, tls1.1, tls1.2 or tls1.3 (1.0 and 1.1 are taken for 1.2)", str::to_ascii_lowercase, false,
        |word| number(match word { "tls1.0" => 0x301, "tls1.1" => 0x302, "tls1.2" => 0x303, _ => 0x304 }),
        ["tls1.0", "tls1.1", "tls1.2", "tls1.3"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_nsqd_takes_them() {
        assert_eq!(TlsRequired::parse("1"), Some(TlsRequired("true")));
        assert_eq!(TlsRequired::parse("tcp-https"), Some(TlsRequired("tcp-https")));
        assert_eq!(TlsVersion::parse("TLS1.2"), Some(TlsVersion("tls1.2")));
        assert_eq!(TlsVersion::parse("ssl3.0"), None);
        assert_eq!(AuthMethod::parse("POST"), None);
        assert_eq!(CertificatePolicy::parse("demand"), None);
    }
}
