//! `mq bench`: the loads of mq-bench on this terminal.

use std::io::Write;

use mq_bench::{Bench, Front};

use crate::Outcome;
use crate::progress::{Bar, Unit};
use crate::table::Table;

/// Runs the load and prints its results.
///
/// # Errors
/// Also where messages were lost, after the results.
pub(crate) fn run(options: Bench) -> Outcome {
    let results = mq_bench::run(&options, Front { bar: &bar, table: &table })?;
    // Who reads the results may have seen enough.
    let _ = std::io::stdout().write_all(results.text.as_bytes());
    match results.lost {
        0 => Ok(0),
        lost => Err(format!("{lost} messages did not come")),
    }
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
