//! `mq top`: topics and their rates, live in the terminal.
//!
//! - `view`: what is shown and what keys do, pure; `screen`: the terminal, as it was before when it ends

mod screen;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use mq_bench::broker_flags::HttpFlags;
use mq_server::config::units;
use mq_server::config::value::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::fleet::{Fleet, FleetFlags};
use crate::interrupt::Interrupt;
use crate::stdout::stdout;
use crate::{Outcome, runtime};
use screen::{Input, Screen};
use view::{Order, View};

/// Flags of `mq top`.
#[derive(clap::Args)]
pub(crate) struct Top {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    fleet: FleetFlags,
    /// Time between looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = tick)]
    interval: Duration,
    /// Column to sort by
    #[arg(long, value_enum, default_value_t = Order::Depth)]
    sort: Order,
    /// Print one table with rates of one interval, and end; so does output that is no terminal
    #[arg(long)]
    once: bool,
    /// Print each row of one table as a JSON object, and end
    #[arg(long)]
    json: bool,
}

fn tick(text: &str) -> Result<Duration, String> {
    let time = Duration::parse(text).filter(|time| *time >= Duration::from_millis(10));
    time.ok_or_else(|| format!("it must be 10ms or more: {}", units::DURATION_FORM))
}

/// Shows topics until `q` or a signal.
pub(crate) fn run(options: Top) -> Outcome {
    runtime()?.block_on(async {
        let fleet = Fleet::new(&options.http, &options.fleet)?;
        let mut view = View::new(&fleet.name(), fleet.is_many, options.sort);
        if options.once || options.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return once(&options, &fleet, &mut view).await;
        }
        live(&options, &fleet, &mut view).await
    })
}

async fn look(fleet: &Fleet, view: &mut View) {
    match fleet.look(&[]).await {
        Ok(look) => view.update(&look, Instant::now()),
        Err(error) => view.fail(error),
    }
}

/// Prints a table. Its status is 1 if a broker of a fleet is not in it.
async fn once(options: &Top, fleet: &Fleet, view: &mut View) -> Outcome {
    view.open_all();
    let mut failures = Vec::new();
    for round in 0..2 {
        if round > 0 {
            tokio::time::sleep(options.interval).await;
        }
        let look = fleet.look(&[]).await?;
        view.update(&look, Instant::now());
        failures = look.failures;
    }
    let mut out = stdout();
    // Who reads it may have seen enough.
    let _ = match options.json {
        true => view.rows().iter().try_for_each(|row| {
            serde_json::to_writer(&mut out, row)?;
            writeln!(out)
        }),
        false => out.write_all(view.table().as_bytes()),
    };
    failures.iter().for_each(|failure| eprintln!("mq top: left out: {failure}"));
    Ok(u8::from(!failures.is_empty()))
}

async fn live(options: &Top, fleet: &Fleet, view: &mut View) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    // A broker that is not there is an error, no empty screen.
    view.update(&fleet.look(&[]).await?, Instant::now());
    let mut screen = Screen::open().map_err(|error| format!("terminal: {error}"))?;
    let mut ticks = interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        screen.draw(view).map_err(|error| format!("terminal: {error}"))?;
        tokio::select! {
            _ = ticks.tick() => look(fleet, view).await,
            input = screen.next() => match input {
                Some(Input::Key(key)) => if view.press(key) {
                    return Ok(0);
                },
                // Drawn anew.
                Some(Input::Resized) => {}
                None => return Ok(0),
            },
            (_, status) = interrupt.next() => return Ok(status),
        }
    }
}
