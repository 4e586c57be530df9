//! JavaScript's values, read and made. Every function runs on JavaScript's thread, in a call from it.

use std::ptr;

use bytes::Bytes;
use napi::bindgen_prelude::{FromNapiValue, ToNapiValue, Unknown};
use napi::{Env, JsValue, Status, check_status, sys};

/// A value as Node-API has it, valid during the call from JavaScript.
pub(crate) type Raw = sys::napi_value;

fn expected(what: &str) -> napi::Error {
    napi::Error::new(Status::InvalidArg, format!("expected {what}"))
}

fn kind(env: &Env, value: Raw) -> napi::Result<sys::napi_valuetype> {
    let mut kind = sys::ValueType::napi_undefined;
    // SAFETY: a value of the call under way in its environment.
    check_status!(unsafe { sys::napi_typeof(env.raw(), value, &raw mut kind) })?;
    Ok(kind)
}

/// Bytes of a string, or of a `Uint8Array`, copied.
pub(crate) fn bytes(env: &Env, value: Raw) -> napi::Result<Bytes> {
    if kind(env, value)? == sys::ValueType::napi_string {
        return Ok(string(env, value)?.into());
    }
    with_bytes(env, value, Bytes::copy_from_slice)
}

/// Calls `read` with the bytes of a `Uint8Array`, where they stand. `read` calls nothing of JavaScript's.
pub(crate) fn with_bytes<T>(env: &Env, array: Raw, read: impl FnOnce(&[u8]) -> T) -> napi::Result<T> {
    let (data, length) = elements_of(env, array, sys::TypedarrayType::uint8_array)
        .ok_or_else(|| expected("a string or a Uint8Array"))?;
    if length == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: `length` bytes stand at `data` as long as no JavaScript runs, which none does during `read`.
    Ok(read(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }))
}

/// The same with the numbers of a `Uint32Array`.
pub(crate) fn with_numbers<T>(env: &Env, array: Raw, read: impl FnOnce(&[u32]) -> T) -> napi::Result<T> {
    let (data, length) = elements_of(env, array, sys::TypedarrayType::uint32_array)
        .ok_or_else(|| expected("a Uint32Array"))?;
    if length == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: as in `with_bytes`, aligned as JavaScript requires it of the array.
    Ok(read(unsafe { std::slice::from_raw_parts(data.cast::<u32>(), length) }))
}

/// Place and number of the elements of a typed array, if it is one of this kind. The place of none is null.
fn elements_of(
    env: &Env,
    array: Raw,
    wanted: sys::napi_typedarray_type,
) -> Option<(*mut std::ffi::c_void, usize)> {
    let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
    // SAFETY: as in `kind`; anything but a typed array is answered with an error.
    let status = unsafe {
        sys::napi_get_typedarray_info(
            env.raw(),
            array,
            &raw mut kind,
            &raw mut length,
            &raw mut data,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    (status == sys::Status::napi_ok && kind == wanted).then_some((data, length))
}

fn string(env: &Env, value: Raw) -> napi::Result<Vec<u8>> {
    let mut length = 0;
    // SAFETY: a string of the call under way; without a buffer only its length is asked for.
    check_status!(unsafe {
        sys::napi_get_value_string_utf8(env.raw(), value, ptr::null_mut(), 0, &raw mut length)
    })?;
    // The last byte is a zero.
    let mut text = vec![0_u8; length + 1];
    // SAFETY: as above, with a buffer of the length that is given.
    check_status!(unsafe {
        sys::napi_get_value_string_utf8(
            env.raw(),
            value,
            text.as_mut_ptr().cast(),
            text.len(),
            &raw mut length,
        )
    })?;
    text.truncate(length);
    Ok(text)
}

/// Elements of an array; none of `undefined` and `null`.
pub(crate) fn elements(env: &Env, array: Raw) -> napi::Result<Vec<Raw>> {
    let nothing = [sys::ValueType::napi_undefined, sys::ValueType::napi_null];
    if nothing.contains(&kind(env, array)?) {
        return Ok(Vec::new());
    }
    let mut length = 0;
    // SAFETY: as in `kind`; what is no array is answered with an error.
    check_status!(unsafe { sys::napi_get_array_length(env.raw(), array, &raw mut length) })?;
    (0..length)
        .map(|at| {
            let mut element = ptr::null_mut();
            // SAFETY: as above; an index out of range would give `undefined`.
            check_status!(unsafe { sys::napi_get_element(env.raw(), array, at, &raw mut element) })?;
            Ok(element)
        })
        .collect()
}

/// Bytes, or `None` of `undefined` and `null`.
pub(crate) fn optional_bytes(env: &Env, value: Raw) -> napi::Result<Option<Bytes>> {
    let nothing = [sys::ValueType::napi_undefined, sys::ValueType::napi_null];
    if nothing.contains(&kind(env, value)?) { Ok(None) } else { Ok(Some(bytes(env, value)?)) }
}

/// Headers: names and values in turn.
pub(crate) fn headers(env: &Env, list: Raw) -> napi::Result<Vec<(String, Bytes)>> {
    let elements = elements(env, list)?;
    let pair = |pair: &[Raw]| match *pair {
        [name, value] => {
            let name = String::from_utf8(string(env, name)?);
            Ok((name.map_err(|_| expected("a header's name"))?, bytes(env, value)?))
        }
        _ => Err(expected("names and values in turn")),
    };
    elements.chunks(2).map(pair).collect()
}

/// A value of Rust for JavaScript.
pub(crate) fn value<T: ToNapiValue>(env: &Env, value: T) -> napi::Result<Raw> {
    // SAFETY: on JavaScript's thread, in a call from it.
    unsafe { T::to_napi_value(env.raw(), value) }
}

/// An array of these values.
pub(crate) fn array(env: &Env, elements: &[Raw]) -> napi::Result<Raw> {
    let mut array = ptr::null_mut();
    // SAFETY: on JavaScript's thread, in a call from it.
    check_status!(unsafe { sys::napi_create_array_with_length(env.raw(), elements.len(), &raw mut array) })?;
    for (at, &element) in (0..).zip(elements) {
        // SAFETY: as above, with values of the same call.
        check_status!(unsafe { sys::napi_set_element(env.raw(), array, at, element) })?;
    }
    Ok(array)
}

/// A `Uint8Array` over new memory of JavaScript's, filled by `fill`. It is never shared with Rust, so that no
/// finalizer is needed.
pub(crate) fn filled(env: &Env, length: usize, fill: impl FnOnce(&mut [u8])) -> napi::Result<Raw> {
    let (mut data, mut buffer, mut array) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: on JavaScript's thread, in a call from it.
    check_status!(unsafe {
        sys::napi_create_arraybuffer(env.raw(), length, &raw mut data, &raw mut buffer)
    })?;
    if length > 0 {
        // SAFETY: `length` bytes at `data`, set to zero, that nobody else sees before the call returns.
        fill(unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), length) });
    }
    let kind = sys::TypedarrayType::uint8_array;
    // SAFETY: as above.
    check_status!(unsafe {
        sys::napi_create_typedarray(env.raw(), kind, length, buffer, 0, &raw mut array)
    })?;
    Ok(array)
}

/// A `Uint32Array` with these words.
pub(crate) fn words(env: &Env, words: &[u32]) -> napi::Result<Raw> {
    numbers_of(env, sys::TypedarrayType::uint32_array, words)
}

/// A `BigUint64Array` with these words.
pub(crate) fn wide_words(env: &Env, words: &[u64]) -> napi::Result<Raw> {
    numbers_of(env, sys::TypedarrayType::biguint64_array, words)
}

/// A typed array of a kind whose elements are of type `T`.
fn numbers_of<T: Copy>(env: &Env, kind: sys::napi_typedarray_type, numbers: &[T]) -> napi::Result<Raw> {
    let (mut data, mut buffer, mut array) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let length = numbers.len();
    // SAFETY: on JavaScript's thread, in a call from it.
    check_status!(unsafe {
        sys::napi_create_arraybuffer(env.raw(), size_of_val(numbers), &raw mut data, &raw mut buffer)
    })?;
    if length > 0 {
        // SAFETY: the new memory is as long as `numbers`, aligned for every element type, and apart from it.
        unsafe { ptr::copy_nonoverlapping(numbers.as_ptr(), data.cast(), length) };
    }
    // SAFETY: as above.
    check_status!(unsafe {
        sys::napi_create_typedarray(env.raw(), kind, length, buffer, 0, &raw mut array)
    })?;
    Ok(array)
}

/// A value of the call under way, as a function returns it.
pub(crate) fn returned(env: &Env, value: Raw) -> napi::Result<Unknown<'static>> {
    // SAFETY: the value lives as long as the call that returns it, and is used for nothing else.
    unsafe { Unknown::from_napi_value(env.raw(), value) }
}

/// The value behind an argument.
pub(crate) fn raw(value: &Unknown<'_>) -> Raw {
    value.value().value
}
