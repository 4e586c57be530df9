//! `mq bench`: the loads of mq-bench on this terminal.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mq_bench::{Bench, Front};

use crate::interrupt::Interrupt;
use crate::progress::{Bar, Unit};
use crate::stdout::stdout;
use crate::table::Table;
use crate::words::count;
use crate::{Outcome, runtime};

/// Runs the load and prints its results.
///
/// # Errors
/// Also where messages were lost, after the results.
pub(crate) fn run(options: Bench) -> Outcome {
    let stopped = at_signal();
    let results = mq_bench::run(&options, Front { bar: &bar, table: &table, stopped: &stopped })?;
    if stopped.load(Ordering::Relaxed) {
        let _ =
            writeln!(std::io::stderr(), "mq bench: interrupted: the figures are of what was done until then");
    }
    // Who reads the results may have seen enough.
    let _ = stdout().write_all(results.text.as_bytes());
    match results.lost {
        0 => Ok(0),
        lost => Err(format!("{} did not come", count(lost, "message", "messages"))),
    }
}

/// A flag that is set once a signal comes. Where signals can't be caught they end the process, as they would
/// have anyway.
fn at_signal() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&flag);
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            let Ok(mut interrupt) = Interrupt::catch() else { return };
            interrupt.next().await;
            heard.store(true, Ordering::Relaxed);
        });
    });
    flag
}

fn bar(unit: mq_bench::Unit) -> mq_bench::Bar {
    let mut bar = Bar::new(match unit {
        mq_bench::Unit::Messages => Unit::Messages,
        mq_bench::Unit::Topics => Unit::Topics,
        mq_bench::Unit::Connections => Unit::Connections,
        mq_bench::Unit::Seconds => Unit::Seconds,
    });
    Box::new(move |done, total| bar.show(done, total))
}

fn table(rows: &[Vec<String>]) -> String {
    let mut table = Table::default();
    rows.iter().for_each(|row| table.row(row));
    table.show()
}
