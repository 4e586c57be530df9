//! Text for people: numbers with their nouns, and names as they can be shown.

/// `number` and what it counts: `1 message`, `2 messages`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `text` with its control characters escaped, so that a name on disk can't steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_escaped_and_quotes_are_not() {
        assert_eq!(super::printable("can't \"é\" \u{1b}[2J"), "can't \"é\" \\u{1b}[2J");
    }

    #[test]
    fn one_is_not_many() {
        let of = |number| super::count(number, "message", "messages");
        assert_eq!([of(0), of(1), of(2)], ["0 messages", "1 message", "2 messages"]);
    }
}
