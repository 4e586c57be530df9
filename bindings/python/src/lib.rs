//! The extension module `libmq._libmq`: the crate `libmq` for Python. What Python programs import is in
//! `python/libmq`.
//!
//! - `client`, `subscription`, `message`, `publish`: the classes
//! - `operation`: waits of event loops, without a thread that takes the GIL
//! - `wait`: waits of threads, which see signals; `values`, `settings`: arguments; `errors`: exceptions;
//!   `log`: lines for `logging`
//!
//! Calls that may wait are detached from the interpreter; the others are too short for it. No thread of the
//! library ever attaches.

mod client;
mod errors;
mod log;
mod message;
mod operation;
mod publish;
mod settings;
mod subscription;
mod values;
mod wait;

use std::ffi::OsString;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Runs the command line `argv` of the program mq, and returns its exit status.
#[pyfunction]
fn main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| mq_cli::main(argv))
}

/// Refuses interpreters but the main one: classes and exceptions would be shared between them.
#[allow(unsafe_code, reason = "the id of an interpreter has no other interface")]
fn check_interpreter() -> PyResult<()> {
    // SAFETY: the module is initialised with the interpreter attached, which both calls want.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err("libmq can't be used in a subinterpreter: use threads or processes"))
}

#[pymodule]
mod _libmq {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.setattr("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::check_interpreter()
    }

    #[pymodule_export]
    use crate::client::{Client, connect};
    #[pymodule_export]
    use crate::main;
    #[pymodule_export]
    use crate::message::{Batch, BatchIterator, Message};
    #[pymodule_export]
    use crate::operation::{Operation, Wakeups};
    #[pymodule_export]
    use crate::publish::{Pending, Receipt};
    #[pymodule_export]
    use crate::subscription::{BatchesIterator, Subscription};
}
