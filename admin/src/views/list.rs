//! Searching, sorting and paging.

use std::cmp::Ordering;

use mq_net::http::{Answer, Query};

use super::invalid;

/// Rows of a page.
const PER_PAGE: usize = 50;
const PER_PAGE_MAX: usize = 200;

/// A part of a list, as a request wants it.
#[derive(Debug)]
pub(super) struct Part {
    /// In lower case.
    search: String,
    sort: String,
    falls: Option<bool>,
    pub(super) page: usize,
    pub(super) per_page: usize,
}

/// A value to sort by; what is not known is less than anything.
pub(super) type SortKey = Option<f64>;

impl Part {
    pub(super) fn of(query: &Query) -> Result<Self, Answer> {
        let number = |name: &str, default: usize, max: usize| match query.get_some(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=max).contains(number))
                .ok_or_else(|| invalid(&format!("{name} {text:?} is no number from 1 to {max}"))),
        };
        let falls = match query.get_some("order") {
            None => None,
            Some("asc") => Some(false),
            Some("desc") => Some(true),
            Some(other) => return Err(invalid(&format!("order {other:?} is none of asc, desc"))),
        };
        Ok(Self {
            search: query.get("search").unwrap_or_default().to_lowercase(),
            sort: query.get_some("sort").unwrap_or("trouble").to_owned(),
            falls,
            page: number("page", 1, 1_000_000)?,
            per_page: number("per_page", PER_PAGE, PER_PAGE_MAX)?,
        })
    }

    /// Whether a name is searched for.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.search.is_empty() || name.to_lowercase().contains(&self.search)
    }

    /// The rows of the page out of `rows`, which are by name. `key` gives the value of a column; `None` where
    /// there is no such column.
    pub(super) fn cut<'r, T>(
        &self,
        mut rows: Vec<(&'r str, T)>,
        key: impl Fn(&str, &T) -> Option<SortKey>,
    ) -> Result<Vec<(&'r str, T)>, Answer> {
        if self.sort == "name" {
            if self.falls == Some(true) {
                rows.reverse();
            }
        } else {
            let sorted: Option<Vec<(SortKey, (&str, T))>> =
                rows.into_iter().map(|row| Some((key(&self.sort, &row.1)?, row))).collect();
            let mut sorted = sorted.ok_or_else(|| invalid(&format!("sort {:?} is no column", self.sort)))?;
            let compare = |a: &SortKey, b: &SortKey| a.partial_cmp(b).unwrap_or(Ordering::Equal);
            match self.falls.unwrap_or(true) {
                true => sorted.sort_by(|(a, _), (b, _)| compare(b, a)),
                false => sorted.sort_by(|(a, _), (b, _)| compare(a, b)),
            }
            rows = sorted.into_iter().map(|(_, row)| row).collect();
        }
        let first = (self.page - 1).saturating_mul(self.per_page);
        Ok(rows.into_iter().skip(first).take(self.per_page).collect())
    }
}
