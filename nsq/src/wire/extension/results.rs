//! The answer to a PUBLISH.

use super::{Malformed, sized};

const STORED: u8 = 0;
const DUPLICATE: u8 = 1;
const REFUSED: u8 = 2;
const REFUSED_FOR_NOW: u8 = 3;

/// Messages in a row with the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// Stored, at offsets that follow each other.
    Stored {
        /// Messages.
        count: u32,
        /// Offset of the first.
        first: u64,
        /// Whether they were stored before.
        duplicate: bool,
    },
    /// The message was not stored.
    Refused {
        /// Messages.
        count: u32,
        /// Whether the same can succeed later.
        retry: bool,
        /// The reason: `CODE description`.
        why: &'a [u8],
    },
}

impl Run<'_> {
    /// Messages of the run.
    pub fn count(&self) -> u32 {
        match self {
            Self::Stored { count, .. } | Self::Refused { count, .. } => *count,
        }
    }
}

/// Appends a run. The reason of a refusal is cut off behind 64 KiB.
pub fn put_run(out: &mut Vec<u8>, run: &Run<'_>) {
    match run {
        Run::Stored { count, first, duplicate } => {
            out.push(if *duplicate { DUPLICATE } else { STORED });
            out.extend_from_slice(&count.to_be_bytes());
            out.extend_from_slice(&first.to_be_bytes());
        }
        Run::Refused { count, retry, why } => {
            out.push(if *retry { REFUSED_FOR_NOW } else { REFUSED });
            out.extend_from_slice(&count.to_be_bytes());
            let why = &why[..why.len().min(usize::from(u16::MAX))];
            out.extend_from_slice(&(why.len() as u16).to_be_bytes());
            out.extend_from_slice(why);
        }
    }
}

/// The runs of a frame of results. Ends at the first fault.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a>(&'a [u8]);

impl<'a> Runs<'a> {
    /// The runs in the data of a frame.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    fn decode(&mut self) -> Result<Run<'a>, Malformed> {
        let (kind, rest) = self.0.split_first().ok_or(Malformed::Length)?;
        let (count, mut rest) = rest.split_first_chunk().ok_or(Malformed::Length)?;
        let count = u32::from_be_bytes(*count);
        let run = match *kind {
            STORED | DUPLICATE => {
                let (first, behind) = rest.split_first_chunk().ok_or(Malformed::Length)?;
                rest = behind;
                Run::Stored { count, first: u64::from_be_bytes(*first), duplicate: *kind == DUPLICATE }
            }
            REFUSED | REFUSED_FOR_NOW => {
                let why = sized::<2>(&mut rest)?;
                Run::Refused { count, retry: *kind == REFUSED_FOR_NOW, why }
            }
            unknown => return Err(Malformed::Result(unknown)),
        };
        self.0 = rest;
        Ok(run)
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Result<Run<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let run = self.decode();
        if run.is_err() {
            self.0 = &[];
        }
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_are_drawn_to_the_byte() {
        let runs = [
            Run::Stored { count: 2, first: 0x0102, duplicate: false },
            Run::Stored { count: 1, first: 7, duplicate: true },
            Run::Refused { count: 3, retry: true, why: b"no" },
        ];
        let mut out = Vec::new();
        runs.iter().for_each(|run| put_run(&mut out, run));
        let want: &[u8] =
            b"\0\0\0\0\x02\0\0\0\0\0\0\x01\x02\x01\0\0\0\x01\0\0\0\0\0\0\0\x07\x03\0\0\0\x03\0\x02no";
        assert_eq!(out, want);
        let decoded: Vec<_> = Runs::new(&out).map(Result::unwrap).collect();
        assert_eq!(decoded, runs);
        assert_eq!(Runs::new(&out[..out.len() - 1]).last(), Some(Err(Malformed::Length)));
        assert_eq!(Runs::new(&[4, 0, 0, 0, 0]).last(), Some(Err(Malformed::Result(4))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_runs_or_malformed(bytes in prop::collection::vec(0u8..4, 0..60)) {
            let mut out = Vec::new();
            let mut whole = true;
            for run in Runs::new(&bytes) {
                match run {
                    Ok(run) => put_run(&mut out, &run),
                    Err(_) => whole = false,
                }
            }
            prop_assert!(bytes.starts_with(&out));
            prop_assert_eq!(whole, out.len() == bytes.len());
        }
    }
}
