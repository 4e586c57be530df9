//! Values of settings without the secrets in them.

/// `text` with stars for what stands before an `@` in a URL: messages go to logs.
pub(crate) fn without_password(text: &str) -> String {
    let parts = text.split(',').map(|part| match part.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => part.to_owned(),
        },
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        assert_eq!(without_password("http://u:p@a:1/x,b:2"), "http://***@a:1/x,b:2");
        assert_eq!(without_password("60x"), "60x");
    }
}
