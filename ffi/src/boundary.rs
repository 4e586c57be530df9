//! The one border between C and Rust: panics end here, and pointers are checked here.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::fork::Generation;
use crate::status::{Failure, Outcome, mq_status, note};
use crate::values::mq_span;

/// Runs a call. A panic becomes `MQ_STATUS_PANIC`.
pub(crate) fn guard(call: impl FnOnce() -> Outcome) -> mq_status {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => mq_status::Ok,
        Ok(Err(failure)) => note(failure),
        Err(_) => note(Failure::new(mq_status::Panic, "libmq panicked: this is a bug of libmq")),
    }
}

/// Runs a call that returns a value of its own, `or` if it fails.
pub(crate) fn guard_or<T>(or: T, call: impl FnOnce() -> Outcome<T>) -> T {
    let mut value = or;
    guard(|| {
        value = call()?;
        Ok(())
    });
    value
}

/// An object that C holds a pointer to.
pub(crate) trait Handle {
    /// The process that made it.
    fn generation(&self) -> Generation;
}

/// The handle behind a pointer.
///
/// # Safety
/// `pointer` is NULL or one that the library gave out for this type and that is not freed while the reference
/// lives.
pub(crate) unsafe fn handle<'a, T: Handle>(pointer: *const T, name: &str) -> Outcome<&'a T> {
    // SAFETY: the caller's promise.
    let handle = unsafe { pointer.as_ref() }.ok_or_else(|| null(name))?;
    if handle.generation().is_forked() {
        return Err(Failure::new(
            mq_status::Forked,
            format!("{name} was made before a fork: make a new one"),
        ));
    }
    Ok(handle)
}

/// Gives an object to C, as a pointer that [`free`] takes.
pub(crate) fn give<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Writes an output.
///
/// # Safety
/// `out` points to a place for a `T`, which is [`required`] before.
pub(crate) unsafe fn put<T>(out: *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { out.write(value) };
}

/// Refuses NULL for an output, before anything is done.
pub(crate) fn required<T>(pointer: *const T, name: &str) -> Outcome {
    if pointer.is_null() { Err(null(name)) } else { Ok(()) }
}

fn null(name: &str) -> Failure {
    Failure::invalid(format!("{name} is NULL"))
}

thread_local! {
    /// In a callback: the handles that it frees, which go when it returns.
    static FREED: RefCell<Option<Vec<Box<dyn std::any::Any>>>> = const { RefCell::new(None) };
}

/// A pointer that the user has for the callback alone.
pub(crate) struct UserData(pub(crate) *mut c_void);

// SAFETY: the library does nothing with the pointer; the header says on which thread the callback gets it.
unsafe impl Send for UserData {}

/// Runs a user's callback, and then drops the handles that it freed.
pub(crate) fn call_back(callback: impl FnOnce()) {
    FREED.with(|freed| freed.replace(Some(Vec::new())));
    callback();
    let freed = FREED.with(RefCell::take);
    drop(freed);
}

/// Refuses a call within a callback.
pub(crate) fn outside_callback(what: &str) -> Outcome {
    if FREED.with(|freed| freed.borrow().is_some()) {
        let message = format!("{what} would wait for the callback that calls it");
        return Err(Failure::new(mq_status::WouldDeadlock, message));
    }
    Ok(())
}

/// Frees what [`give`] gave. NULL is nothing, and a handle of before a fork is left as it is: its threads and
/// locks are not in this process. Within a callback the handle lives until the callback returns.
///
/// # Safety
/// `pointer` is NULL or one from [`give`] that is freed only once.
pub(crate) unsafe fn free<T: Handle + 'static>(pointer: *mut T) {
    guard(|| {
        // SAFETY: the caller's promise.
        let Some(handle) = (unsafe { pointer.as_ref() }) else { return Ok(()) };
        if handle.generation().is_forked() {
            return Ok(());
        }
        // SAFETY: the caller's promise; the reference above is not used any more.
        let handle = unsafe { Box::from_raw(pointer) };
        let now = FREED.with_borrow_mut(|freed| match freed {
            Some(freed) => {
                freed.push(handle);
                None
            }
            None => Some(handle),
        });
        drop(now);
        Ok(())
    });
}

/// The text behind a pointer.
///
/// # Safety
/// `text` is NULL or ends with a zero byte, and is not changed while the reference lives.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Outcome<&'a str> {
    required(text, name)?;
    // SAFETY: the caller's promise; it is not NULL.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::invalid(format!("{name} is not UTF-8")))
}

/// The `n` elements behind a pointer, which may be NULL if there are none.
///
/// # Safety
/// If `n` is not 0, `first` is NULL or points to `n` elements that are not changed while the slice lives.
pub(crate) unsafe fn slice<'a, T>(first: *const T, n: usize, name: &str) -> Outcome<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    required(first, name)?;
    if n.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::invalid(format!("{name} is longer than memory")));
    }
    // SAFETY: the caller's promise; it is not NULL, and no longer than a slice may be.
    Ok(unsafe { std::slice::from_raw_parts(first, n) })
}

/// The bytes of a span.
///
/// # Safety
/// Those of [`slice`], for its `data` and `len`.
pub(crate) unsafe fn bytes<'a>(span: &mq_span, name: &str) -> Outcome<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { slice(span.data.cast::<u8>(), span.len, name) }
}

/// Options, which begin with their size.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` and is valid for any bytes, all of them zero for defaults.
pub(crate) unsafe trait SizedOptions {
    /// Bytes of its first version.
    const MIN: usize;
    /// Its name in the header.
    const NAME: &'static str;
}

/// Reads options of a program that was compiled with an older header, this one, or a newer one of which it
/// uses nothing. NULL: all defaults.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its first field says.
pub(crate) unsafe fn options<T: SizedOptions + Copy>(options: *const T) -> Outcome<T> {
    // SAFETY: zeros are valid for the type, by its trait.
    let mut read: T = unsafe { std::mem::zeroed() };
    if options.is_null() {
        return Ok(read);
    }
    // SAFETY: not NULL, and the first field is the size.
    let size = unsafe { options.cast::<usize>().read_unaligned() };
    if size < T::MIN || size > 1 << 16 {
        let init = "begin with its ..._INIT";
        return Err(Failure::invalid(format!("{}.size is {size}: {init}", T::NAME)));
    }
    let own = size_of::<T>();
    // SAFETY: `size` bytes are there, and bytes behind the type's end may be read as such.
    let more = unsafe {
        slice(options.cast::<u8>().wrapping_add(own.min(size)), size.saturating_sub(own), T::NAME)?
    };
    if more.iter().any(|byte| *byte != 0) {
        let message = format!("{} has a field that this libmq is too old for", T::NAME);
        return Err(Failure::new(mq_status::Unsupported, message));
    }
    // SAFETY: both have that many bytes; any bytes are valid for the type.
    unsafe { std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut read).cast(), own.min(size)) };
    Ok(read)
}

/// The size that a program has set in the first field of an output, which is refused if it is less than that
/// of the first version.
///
/// # Safety
/// `out` is NULL or points to as many bytes as its first field says.
pub(crate) unsafe fn size_of_output<T: SizedOptions>(out: *const T, name: &str) -> Outcome<usize> {
    required(out, name)?;
    // SAFETY: not NULL, and the first field is the size.
    let size = unsafe { out.cast::<usize>().read_unaligned() };
    if size < T::MIN {
        return Err(Failure::invalid(format!("{}.size is {size}: begin with its ..._INIT", T::NAME)));
    }
    Ok(size)
}

/// Writes as much of an output as a program has room for.
///
/// # Safety
/// `out` points to `size` bytes, which are no part of `value`.
pub(crate) unsafe fn put_sized<T: SizedOptions>(out: *mut T, value: T, size: usize) {
    let len = size.min(size_of::<T>());
    // SAFETY: the caller's promise, and no more than `value` has.
    unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), out.cast(), len) };
}

/// A wait of so many milliseconds; for ever if negative.
pub(crate) fn wait(timeout_ms: c_int) -> Duration {
    u64::try_from(timeout_ms).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::mq_publish_options;

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guard(|| panic!("on purpose")), mq_status::Panic);
        assert_eq!(guard_or(-1, || panic!("on purpose")), -1);
        // SAFETY: the text is this thread's, and no call has failed since.
        let last = unsafe { CStr::from_ptr(crate::status::mq_last_error()) };
        assert!(last.to_str().unwrap().contains("bug"));
    }

    #[test]
    fn options_of_any_age_are_read() {
        let of = |size| {
            // SAFETY: zeros are valid for options.
            let mut options: [mq_publish_options; 2] = unsafe { std::mem::zeroed() };
            options[0].size = size;
            options[0].delay_ms = 7;
            options
        };
        let size = size_of::<mq_publish_options>();
        // SAFETY: as many bytes as the size says are there.
        let read = |all: &[mq_publish_options; 2]| unsafe { options(all.as_ptr()) };
        assert_eq!(read(&of(size)).unwrap().delay_ms, 7);
        assert_eq!(read(&of(mq_publish_options::MIN)).unwrap().delay_ms, 7);
        assert_eq!(read(&of(0)).unwrap_err().status, mq_status::InvalidArgument);
        let mut newer = of(size + 8);
        assert_eq!(read(&newer).unwrap().delay_ms, 7);
        newer[1].size = 1;
        assert_eq!(read(&newer).unwrap_err().status, mq_status::Unsupported);
    }

    #[test]
    fn a_handle_freed_in_a_callback_lives_until_it_returns() {
        struct Counted(std::rc::Rc<std::cell::Cell<u32>>, Generation);
        impl Handle for Counted {
            fn generation(&self) -> Generation {
                self.1
            }
        }
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        let one = || give(Counted(count.clone(), Generation::now()));
        // SAFETY: each is freed once.
        unsafe {
            free(one());
            assert_eq!(count.get(), 1);
            call_back(|| {
                free(one());
                assert_eq!(count.get(), 1);
                assert_eq!(outside_callback("this").unwrap_err().status, mq_status::WouldDeadlock);
            });
        }
        assert_eq!(count.get(), 2);
        assert!(outside_callback("this").is_ok());
    }
}
