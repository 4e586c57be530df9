//! Memory from the system, to be filled.

use bytes::BytesMut;
use rustix::param::page_size;

/// An empty buffer for `bytes` whose pages are there already: taken one by one, as they are written to, they
/// would cost half as much again. Where the system can't do that, they come as they are written to.
pub(super) fn buffer(bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(bytes);
    let spare = buffer.spare_capacity_mut();
    let page = page_size();
    let before = spare.as_ptr().align_offset(page);
    let len = spare.len().saturating_sub(before) / page * page;
    if let Some(pages) = spare.get_mut(before..before + len).filter(|pages| !pages.is_empty()) {
        populate(pages);
    }
    buffer
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // Saves a quarter of what publishing to memory costs; ARCHITECTURE.md has the figures.
fn populate(pages: &mut [std::mem::MaybeUninit<u8>]) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the pages lie within a slice that is ours alone. The call makes them present, as a write of
    // what is in them would, and changes nothing of it.
    let _ = unsafe { madvise(pages.as_mut_ptr().cast(), pages.len(), Advice::LinuxPopulateWrite) };
}

#[cfg(not(target_os = "linux"))]
fn populate(_pages: &mut [std::mem::MaybeUninit<u8>]) {}
