//! Values that must never be shown.

use std::fmt;

/// A value that no log and no error text gets to see: printing it for debugging prints dots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`, which is never printed from here on.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for whom it is meant.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// A text of 128 random bits, which nobody guesses; `None` where the system has none to give.
pub fn unguessable() -> Option<String> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_not_printed() {
        assert_eq!(format!("{:?} {:#?}", Secret::new(b"hush"), Secret::new("hush")), "... ...");
    }
}
