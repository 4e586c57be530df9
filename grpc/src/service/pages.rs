//! Long lists in parts: how many items a response has, and where the next goes on.

use prost::Message;

use crate::status::Refusal;

/// Bytes of the items in a response, but for a single one.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// The page that a request asks for.
pub(super) struct Page {
    /// Most items in the page.
    size: usize,
    /// The key of the last item before it; empty at the beginning.
    after: String,
}

impl Page {
    /// Checks `page_size` and `page_token`, which is the key of an item.
    pub(super) fn new(size: u32, token: String, default: usize, max: usize) -> Result<Self, Refusal> {
        let size = match usize::try_from(size).unwrap_or(usize::MAX) {
            0 => default,
            size if size <= max => size,
            size => {
                let text = format!("{size} is more than {max}, the largest page");
                return Err(Refusal::invalid("page_size", text));
            }
        };
        Ok(Self { size, after: token })
    }

    /// Whether the item of that key comes after the page before.
    pub(super) fn goes_on_at(&self, key: &str) -> bool {
        self.after.is_empty() || *key > *self.after
    }

    /// Takes the page's items from all that come after the page before, each with its key and in the order of
    /// keys. Returns them and the token of the next page: empty if there is none.
    pub(super) fn fill<T: Message>(&self, items: impl Iterator<Item = (String, T)>) -> (Vec<T>, String) {
        let (mut page, mut bytes, mut token) = (Vec::new(), 0, String::new());
        for (key, item) in items {
            let len = item.encoded_len();
            if page.len() == self.size || (!page.is_empty() && bytes + len > PAGE_BYTES) {
                return (page, token);
            }
            bytes += len;
            page.push(item);
            token = key;
        }
        (page, String::new())
    }
}

/// Cuts items into parts of at most [`PAGE_BYTES`], but for single items. There is always one part.
pub(super) fn parts<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let len = item.encoded_len();
        if !part.is_empty() && bytes + len > PAGE_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += len;
        part.push(item);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::v1::TopicInfo;

    fn topic(name: &str, bytes: usize) -> TopicInfo {
        TopicInfo { name: name.to_owned(), channels: vec!["c".repeat(bytes)] }
    }

    #[test]
    fn pages_end_at_their_size_and_at_their_bytes_and_the_token_goes_on() {
        let all: Vec<_> = ["a", "b", "c"].iter().map(|name| topic(name, 600_000)).collect();
        let (mut token, mut seen) = (String::new(), Vec::new());
        for _ in 0..3 {
            let page = Page::new(2, token, 10, 10).unwrap();
            let rest = all.iter().filter(|topic| page.goes_on_at(&topic.name)).cloned();
            let (items, next) = page.fill(rest.map(|topic| (topic.name.clone(), topic)));
            assert_eq!(items.len(), 1);
            seen.extend(items);
            token = next;
        }
        assert_eq!((seen, token), (all.clone(), String::new()));
        let page = Page::new(2, String::new(), 10, 10).unwrap();
        let small = ["a", "b", "c"].iter().map(|name| ((*name).to_owned(), topic(name, 1)));
        let (items, token) = page.fill(small);
        assert_eq!((items.len(), &token[..]), (2, "b"));
        assert!(Page::new(11, String::new(), 10, 10).is_err());
        assert_eq!(parts(all).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(parts(Vec::<TopicInfo>::new()), [[]]);
    }
}
