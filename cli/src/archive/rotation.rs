//! The time for a new file. Pure.

use std::time::Duration;

/// Bounds of a file; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Bytes, before compression.
    pub(super) size: u64,
    pub(super) age: Duration,
}

/// Reason for a new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The name that a file would get now is another.
    Name,
    /// It is older than it may be.
    Age(Duration),
    /// It is larger than it may be.
    Size(u64),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => f.write_str("new filename, rotating..."),
            Self::Age(age) => write!(f, "{age:.1?} since last open, rotating..."),
            Self::Size(size) => write!(f, "currently {size} bytes, rotating..."),
        }
    }
}

impl Limits {
    /// Whether there is any.
    pub(super) fn rotates(&self) -> bool {
        self.size > 0 || !self.age.is_zero()
    }

    /// The reason to end a file of that name, age and size, if there is one.
    pub(super) fn reason(&self, is_named_so: bool, age: Duration, size: u64) -> Option<Reason> {
        if !is_named_so {
            Some(Reason::Name)
        } else if !self.age.is_zero() && age > self.age {
            Some(Reason::Age(age))
        } else {
            self.is_full(size).then_some(Reason::Size(size))
        }
    }

    /// Whether a file of that size takes no more.
    pub(super) fn is_full(&self, size: u64) -> bool {
        self.size > 0 && size > self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_ends_by_its_name_its_age_or_its_size() {
        let second = Duration::from_secs(1);
        let limits = Limits { size: 100, age: 10 * second };
        assert_eq!(limits.reason(true, 10 * second, 100), None);
        assert_eq!(limits.reason(false, second, 0), Some(Reason::Name));
        assert_eq!(limits.reason(true, 11 * second, 0), Some(Reason::Age(11 * second)));
        assert_eq!(limits.reason(true, second, 101), Some(Reason::Size(101)));
        let none = Limits::default();
        assert_eq!(none.reason(true, 1000 * second, u64::MAX), None);
        assert!(limits.rotates() && !none.rotates());
    }
}
