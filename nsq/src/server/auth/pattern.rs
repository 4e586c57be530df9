//! Regular expressions of authorizations: nsqd's are Go's, these are close, and one that is not understood
//! permits nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use regex::bytes::{Regex, RegexBuilder};

/// Most memory of one compiled expression. Names have at most 64 characters, so none needs more.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Most memory that matching one takes on each thread.
const CACHE_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting.
const NESTING_MAX: u32 = 100;

/// Expressions that no connection uses any more are looked for when there are this many, and then at twice as
/// many as are left.
const PURGE_AT_LEAST: usize = 64;

/// A pattern that a topic or channel name has to match, anywhere in it.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// Matches everything, the empty name too.
    All,
    Regex(Arc<Regex>),
}

impl Pattern {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Regex(regex) => regex.is_match(name.as_bytes()),
        }
    }
}

/// Compiled expressions: connections of one service have the same, and share them.
#[derive(Default)]
pub(super) struct Patterns(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    compiled: HashMap<String, Weak<Regex>>,
    purge_at: usize,
}

impl Patterns {
    /// The expression of that text.
    ///
    /// # Errors
    /// If it is none, or too big.
    pub(super) fn get(&self, text: &str) -> Result<Pattern, regex::Error> {
        if matches!(text, "" | ".*" | "^.*$" | "^.*" | ".*$") {
            return Ok(Pattern::All);
        }
        if let Some(regex) = self.0.lock().compiled.get(text).and_then(Weak::upgrade) {
            return Ok(Pattern::Regex(regex));
        }
        let regex = Arc::new(compile(text)?);
        let mut shelf = self.0.lock();
        if shelf.compiled.len() >= shelf.purge_at {
            shelf.compiled.retain(|_, regex| regex.strong_count() > 0);
            shelf.purge_at = (2 * shelf.compiled.len()).max(PURGE_AT_LEAST);
        }
        shelf.compiled.insert(text.to_owned(), Arc::downgrade(&regex));
        Ok(Pattern::Regex(regex))
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Patterns").field(&self.0.lock().compiled.len()).finish()
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    let build = |unicode| {
        RegexBuilder::new(text)
            .unicode(unicode)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .build()
    };
    // As in Go, `\w` and the like are ASCII; but for what only Unicode has, as `\p{Greek}`.
    build(false).or_else(|_| build(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Patterns::default().get(pattern).unwrap().matches(name)
    }

    #[test]
    fn matches_anywhere_as_in_go() {
        for (pattern, name) in [
            ("", "t"),
            ("", ""),
            (".*", ""),
            ("^$", ""),
            ("b", "abc"),
            ("^a", "abc"),
            ("c$", "abc"),
            ("^(a|b).c$", "abc"),
            (r"^orders\.", "orders.eu"),
            (r"^\w{1,64}$", "topic_name"),
            (r"\Atopic\z", "topic"),
            (r"(?i)^TOPIC$", "topic"),
            (r"[[:alpha:]]+\-\d", "t-1"),
            (r"(?P<name>x)(?:y)?", "x"),
            (r"\pL", "t"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            (".+", ""),
            ("^b", "abc"),
            ("^orders$", "orders.eu"),
            (r"^orders\.", "orders_eu"),
            ("A", "a"),
            (r"^\d+$", "a1"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_expression_or_too_big_is_refused() {
        let deep = "(".repeat(2000) + &")".repeat(2000);
        for bad in ["(", "[", "*", "a{2,1}", "(?=a)", r"\1", "((a{1000}){1000}){1000}", &deep] {
            assert!(Patterns::default().get(bad).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn the_same_text_is_compiled_once_and_forgotten_when_unused() {
        let patterns = Patterns::default();
        let (Pattern::Regex(a), Pattern::Regex(b)) = (patterns.get("a").unwrap(), patterns.get("a").unwrap())
        else {
            panic!("not an expression");
        };
        assert!(Arc::ptr_eq(&a, &b));
        for i in 0..10 * PURGE_AT_LEAST {
            patterns.get(&format!("^{i}")).unwrap();
        }
        assert!(patterns.0.lock().compiled.len() <= PURGE_AT_LEAST);
        assert!(matches!(patterns.get("a").unwrap(), Pattern::Regex(c) if Arc::ptr_eq(&a, &c)));
    }
}
