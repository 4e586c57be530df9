//! `to_nsq`: the pieces of stdin, each to every address.

use std::time::Instant;

use mq_server::config::value::Size;
use tokio::time::sleep;

use super::line_batches::LineBatch;
use super::rate::Rate;
use super::sender::Sender;
use super::{LAST_ANSWERS, read_stdin};
use crate::brokers::nsq_flags::producer;
use crate::brokers::reach;
use crate::interrupt::Interrupt;
use crate::{Outcome, runtime};

/// Longest piece: above what brokers take, and still a bound.
const PIECE_MAX: Size = Size(128 << 20);

/// Flags of `to_nsq`.
#[derive(clap::Args)]
pub(crate) struct ToNsq {
    /// Topic to publish to
    #[arg(long, value_name = "TOPIC", default_value = "")]
    topic: String,
    /// TCP address of an nsqd (may be given multiple times): each gets all messages
    #[arg(long, value_name = "ADDRESS")]
    nsqd_tcp_address: Vec<String>,
    /// Byte that ends a message
    #[arg(long, value_name = "BYTE", default_value = "\n")]
    delimiter: String,
    /// Messages a second at most; 0: no bound
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    rate: u32,
    /// Option of the producers: name,value (may be given multiple times)
    #[arg(long, value_name = "NAME,VALUE")]
    producer_opt: Vec<String>,
}

/// Publishes until the input ends, or a signal comes. Success only if every message was acknowledged.
pub(crate) fn run_nsq(options: ToNsq) -> Outcome {
    if options.topic.is_empty() {
        return Err("--topic required".to_owned());
    }
    let [delimiter] = *options.delimiter.as_bytes() else {
        return Err("--delimiter must be a single byte".to_owned());
    };
    if options.nsqd_tcp_address.is_empty() {
        return Err("--nsqd-tcp-address required".to_owned());
    }
    let client = |address: &String| producer("to_nsq", address, &options.producer_opt);
    let clients = options.nsqd_tcp_address.iter().map(client).collect::<Result<_, _>>()?;
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::catch()?;
        reach(&options.nsqd_tcp_address).await?;
        let mut sender = Sender::new(clients);
        tokio::select! {
            sent = publish(&options, delimiter, &mut sender) => return sent.map(|()| 0),
            _ = interrupt.next() => {}
        }
        sender.wait_answers(LAST_ANSWERS).await;
        Ok(0)
    })
}

async fn publish(options: &ToNsq, delimiter: u8, sender: &mut Sender) -> Result<(), String> {
    let mut rate = (options.rate > 0).then(|| Rate::new(options.rate, Instant::now()));
    let mut batches = read_stdin(delimiter, PIECE_MAX);
    while let Some(batch) = batches.recv().await {
        // Empty pieces are passed over in silence, as by NSQ's own.
        let LineBatch { lines, too_long, empty: _ } = batch?;
        for body in lines {
            while let Some(Err(wait)) = rate.as_mut().map(|rate| rate.take(Instant::now())) {
                sleep(wait).await;
            }
            sender.send(&options.topic, body.into()).await.map_err(|error| error.to_string())?;
        }
        if let Some(piece) = too_long.first() {
            return Err(format!("message {piece} is longer than {} bytes", PIECE_MAX.0));
        }
    }
    sender.finish().await.map_err(|error| error.to_string())
}
