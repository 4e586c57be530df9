//! The part of a URL after `?`.

use super::answer::Answer;
use super::{Parameter, StatusCode};

/// A request's parameters. Of several with one name the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    /// The parameters that the route says it has.
    declared: &'static [Parameter],
}

impl Query {
    /// Parses as Go does: `;` separates nothing and is refused, `+` is a space, a broken escape is refused.
    pub(super) fn parse(text: &str, declared: &'static [Parameter]) -> Result<Self, Answer> {
        let invalid = || Answer::error(StatusCode::BAD_REQUEST, "INVALID_REQUEST");
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(invalid());
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name).ok_or_else(invalid)?, decode(value).ok_or_else(invalid)?);
            pairs.push((name, value));
        }
        Ok(Self { pairs, declared })
    }

    /// The parameter's value, `None` without one.
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(self.declared.iter().any(|p| p.name == name), "the route does not declare {name}");
        self.pairs.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// [`Query::get`], where nothing is as good as none.
    pub fn get_some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

/// Resolves `%xx` and `+`; `None` for a broken escape. What is not UTF-8 is replaced: no name has it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &[Parameter] = &[Parameter::new("topic", ""), Parameter::new("a b", "")];

    #[test]
    fn escapes_are_resolved_and_the_first_value_counts() {
        let query = Query::parse("topic=t%23ephemeral&topic=u&a+b=c%20d&", TOPIC).unwrap();
        assert_eq!(query.get("topic"), Some("t#ephemeral"));
        assert_eq!(query.get("a b"), Some("c d"));
        let query = Query::parse("topic", TOPIC).unwrap();
        assert_eq!((query.get("topic"), query.get_some("topic")), (Some(""), None));
        assert_eq!(query.get("a b"), None);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in ["topic=%", "topic=%1", "topic=%zz", "%=1", "topic=a;b=c"] {
            assert!(Query::parse(bad, TOPIC).is_err(), "{bad}");
        }
    }
}
