//! Filters of JSON messages. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

/// Conditions of a message, and the fields of it that go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// A message needs this field.
    pub(super) field: Option<String>,
    /// The field needs this value.
    pub(super) value: Option<String>,
    /// Only these fields go on; empty: the message as it is.
    pub(super) only: Vec<String>,
}

/// Fate of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on, with this body.
    Pass(Bytes),
    /// It is finished.
    Drop,
    /// It is no JSON object: it is finished, and said.
    Broken,
    /// The field that must have a value is missing: it is requeued.
    Requeue,
}

impl Filter {
    /// Whether every message passes as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.field.is_none() && self.only.is_empty()
    }

    /// Judges a message.
    pub(super) fn judge(&self, body: &Bytes) -> Verdict {
        if self.is_empty() {
            return Verdict::Pass(body.clone());
        }
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => fields,
            // To Go, null is an object of nothing.
            Ok(Value::Null) => serde_json::Map::new(),
            _ => return Verdict::Broken,
        };
        if let Some(field) = &self.field {
            match (fields.get(field), &self.value) {
                (None, None) => return Verdict::Drop,
                (None, Some(_)) => return Verdict::Requeue,
                (Some(is), Some(wanted)) if !is_value(is, wanted) => return Verdict::Drop,
                (Some(_), _) => {}
            }
        }
        if self.only.is_empty() {
            return Verdict::Pass(body.clone());
        }
        let kept = self.only.iter().filter_map(|name| Some((name.as_str(), fields.get(name)?)));
        let mut out = String::new();
        write_object(kept.collect::<BTreeMap<_, _>>(), &mut out);
        Verdict::Pass(out.into())
    }
}

/// Whether a field has the value: strings as they are, numbers as numbers.
fn is_value(is: &Value, wanted: &str) -> bool {
    match is {
        Value::String(text) => text == wanted,
        Value::Number(number) => wanted.parse().is_ok_and(|wanted: f64| number.as_f64() == Some(wanted)),
        _ => false,
    }
}

fn write_object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Value)>, out: &mut String) {
    out.push('{');
    for (n, (name, value)) in fields.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// Writes a value as Go does: keys in order, whole numbers as such, and what HTML minds escaped.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&go_float(float)),
            // Exactly, where Go loses digits above 2^53.
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(text, out),
        Value::Array(values) => {
            out.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
            write_object(sorted, out);
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The shortest form of a number that reads back as it, with an exponent where Go has one.
fn go_float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    format!("{float}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Broken, Drop, Pass, Requeue};

    fn filter(field: &str, value: &str, only: &[&str]) -> Filter {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let only = only.iter().map(ToString::to_string).collect();
        Filter { field: some(field), value: some(value), only }
    }

    fn pass(body: &'static str) -> Verdict {
        Pass(Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_field_and_its_value_are_required() {
        let judge = |field, value, body: &'static str| filter(field, value, &[]).judge(&body.into());
        assert_eq!(judge("", "", "not json"), pass("not json"));
        for (field, value, body, verdict) in [
            ("a", "", r#"{"a":null}"#, pass(r#"{"a":null}"#)),
            ("a", "", r#"{"b":1}"#, Drop),
            ("a", "", "null", Drop),
            ("a", "", "[1]", Broken),
            ("a", "", "{", Broken),
            ("a", "1", r#"{"b":1}"#, Requeue),
            ("a", "1", r#"{"a":"1"}"#, pass(r#"{"a":"1"}"#)),
            ("a", "1", r#"{"a":1.0}"#, pass(r#"{"a":1.0}"#)),
            ("a", "1", r#"{"a":2}"#, Drop),
            ("a", "x", r#"{"a":1}"#, Drop),
            ("a", "true", r#"{"a":true}"#, Drop),
        ] {
            assert_eq!(judge(field, value, body), verdict, "{field} {value} {body}");
        }
    }

    #[test]
    fn only_the_fields_asked_for_go_on_and_are_written_as_go_does() {
        let judge = |only: &[&str], body: &'static str| filter("", "", only).judge(&body.into());
        assert_eq!(
            judge(&["b", "a", "none"], r#"{"c":1, "a":1.0, "b":[1.5, {"y":1,"x":2}]}"#),
            pass(r#"{"a":1,"b":[1.5,{"x":2,"y":1}]}"#)
        );
        assert_eq!(
            judge(&["a"], r#"{"a":"<&>\u2028\u0001\"é"}"#),
            pass(r#"{"a":"\u003c\u0026\u003e\u2028\u0001\"é"}"#)
        );
        assert_eq!(
            judge(&["a"], r#"{"a":[1e-7,1e21,1e20,0.000001,-0.5,12345678901234567890]}"#),
            pass(r#"{"a":[1e-7,1e+21,100000000000000000000,0.000001,-0.5,12345678901234567890]}"#)
        );
        assert_eq!(judge(&["a"], "{}"), pass("{}"));
    }
}
