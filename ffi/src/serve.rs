//! An embedded broker served to others.

use std::ffi::c_char;

#[cfg(feature = "serve")]
use crate::boundary::put;
use crate::boundary::{guard, handle, required, slice, text};
use crate::client::mq_client;
#[cfg(feature = "serve")]
use crate::status::c_string;
use crate::status::{Failure, mq_status};

/// Addresses that a served broker listens at; NULL where it does not. Texts, to free with
/// mq_addresses_free.
#[repr(C)]
#[derive(Debug)]
pub struct mq_addresses {
    /// NSQ's protocol over TCP: host:port, or the path of a unix socket.
    pub tcp: *mut c_char,
    /// HTTP.
    pub http: *mut c_char,
    /// HTTP over TLS.
    pub https: *mut c_char,
    /// gRPC.
    pub grpc: *mut c_char,
}

/// Serves an embedded broker to others, until the client is closed: over NSQ's TCP protocol, HTTP and gRPC,
/// as n flags, those of the program mq serve, say. Without flags these are its default addresses, all of this
/// machine alone. Returns once it listens. MQ_STATUS_UNSUPPORTED from a library that was built without
/// servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_serve(
    client: *mut mq_client,
    flags: *const *const c_char,
    n: usize,
    addresses: *mut mq_addresses,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let client = unsafe { handle(client, "client") }?;
        required(addresses, "addresses")?;
        // SAFETY: the header's conventions.
        let flags = unsafe { slice(flags, n, "flags") }?;
        // SAFETY: the header's conventions.
        let flags = flags.iter().map(|flag| unsafe { text(*flag, "a flag") });
        let flags: Vec<&str> = flags.collect::<Result<_, Failure>>()?;
        #[cfg(feature = "serve")]
        {
            let served = client.inner.serve(flags)?;
            let optional =
                |text: Option<String>| text.map_or(std::ptr::null_mut(), |text| c_string(text).into_raw());
            let made = mq_addresses {
                tcp: optional(Some(served.tcp)),
                http: optional(served.http),
                https: optional(served.https),
                grpc: optional(served.grpc),
            };
            // SAFETY: not NULL, and a place for addresses.
            unsafe { put(addresses, made) };
            Ok(())
        }
        #[cfg(not(feature = "serve"))]
        {
            let _ = (&client.inner, flags);
            Err(Failure::new(mq_status::Unsupported, "this libmq was built without servers"))
        }
    })
}

/// Frees the texts of addresses, and sets them to NULL. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_addresses_free(addresses: *mut mq_addresses) {
    guard(|| {
        // SAFETY: the header's conventions.
        let Some(addresses) = (unsafe { addresses.as_mut() }) else { return Ok(()) };
        let mq_addresses { tcp, http, https, grpc } = addresses;
        for text in [tcp, http, https, grpc] {
            // SAFETY: the header's conventions.
            unsafe { crate::admin::mq_string_free(std::mem::replace(text, std::ptr::null_mut())) };
        }
        Ok(())
    });
}
