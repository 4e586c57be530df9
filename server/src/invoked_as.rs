//! Names under which the program runs.

/// The name the program was started under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokedAs {
    /// The program itself.
    Mq,
    /// A drop-in for nsqd: its flags without a subcommand, its defaults.
    Nsqd,
    /// A drop-in for nsqlookupd.
    Nsqlookupd,
    /// A drop-in for nsqadmin.
    Nsqadmin,
}
