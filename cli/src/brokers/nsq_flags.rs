//! Flags by which NSQ's tools find brokers.

use libmq::{Client, SubscribeOptions};

use super::options::{Consumer, Producer};
use super::{reach, user_agent};

/// The brokers that a tool consumes from.
#[derive(Clone, clap::Args)]
pub(crate) struct NsqSource {
    /// nsqd's TCP address (may be given multiple times)
    #[arg(long, value_name = "ADDRESS")]
    nsqd_tcp_address: Vec<String>,
    /// nsqlookupd's HTTP address (may be given multiple times)
    #[arg(long, value_name = "ADDRESS")]
    lookupd_http_address: Vec<String>,
    /// Option of the consumer: name,value (may be given multiple times)
    #[arg(long, value_name = "NAME,VALUE")]
    consumer_opt: Vec<String>,
}

/// Brokers reached, and how to consume from them.
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) options: SubscribeOptions,
    pub(crate) consumer: Consumer,
}

impl NsqSource {
    /// Checks the flags, and reaches the brokers that they name.
    pub(crate) async fn connect(&self, tool: &str, max_in_flight: u32) -> Result<Source, String> {
        either(&self.nsqd_tcp_address, &self.lookupd_http_address, "--nsqd-tcp-address")?;
        let mut consumer = Consumer::default();
        consumer.config.user_agent = user_agent(tool);
        for option in &self.consumer_opt {
            if let Some(without) = consumer.set(option)? {
                eprintln!("{tool}: --consumer-opt {without} has no effect here");
            }
        }
        let url = match self.nsqd_tcp_address.as_slice() {
            [] => format!("mq+lookup://{}", self.lookup_servers().join(",")),
            addresses => url(addresses, consumer.tls),
        };
        let client = libmq::connect_with(&url, consumer.config.clone()).map_err(|error| error.to_string())?;
        reach(&self.nsqd_tcp_address).await?;
        let mut options = SubscribeOptions { max_in_flight, ..SubscribeOptions::default() };
        options.msg_timeout = consumer.msg_timeout.unwrap_or(options.msg_timeout);
        options.sample_rate = consumer.sample_rate;
        Ok(Source { client, options, consumer })
    }

    /// The lookup servers, as `host:port`.
    pub(crate) fn lookup_servers(&self) -> Vec<String> {
        self.lookupd_http_address.iter().map(|address| bare(address)).collect()
    }
}

/// A client that publishes to one broker.
pub(crate) fn producer(tool: &str, address: &str, options: &[String]) -> Result<Client, String> {
    let mut producer = Producer::default();
    producer.config.user_agent = user_agent(tool);
    for option in options {
        if let Some(without) = producer.set(option)? {
            eprintln!("{tool}: --producer-opt {without} has no effect here");
        }
    }
    let url = url(&[address.to_owned()], producer.tls);
    libmq::connect_with(&url, producer.config).map_err(|error| error.to_string())
}

/// Refuses neither and both.
pub(crate) fn either(nsqd: &[String], lookupd: &[String], nsqd_flag: &str) -> Result<(), String> {
    let lookupd_flag = "--lookupd-http-address";
    match (nsqd, lookupd) {
        ([], []) => Err(format!("{nsqd_flag} or {lookupd_flag} required")),
        ([_, ..], [_, ..]) => Err(format!("use {nsqd_flag} or {lookupd_flag} not both")),
        _ => Ok(()),
    }
}

fn url(addresses: &[String], tls: bool) -> String {
    format!("{}://{}", if tls { "mqs" } else { "mq" }, addresses.join(","))
}

/// An HTTP address without what may stand around it in a URL.
pub(crate) fn bare(address: &str) -> String {
    address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_address_is_needed() {
        let some = ["a:1".to_owned()];
        assert!(either(&[], &[], "--nsqd-tcp-address").unwrap_err().ends_with("required"));
        assert!(either(&some, &some, "--nsqd-tcp-address").unwrap_err().ends_with("not both"));
        either(&some, &[], "--nsqd-tcp-address").unwrap();
        either(&[], &some, "--nsqd-tcp-address").unwrap();
    }

    #[test]
    fn a_lookup_address_may_be_a_url() {
        assert_eq!(bare("http://a:4161/"), "a:4161");
        assert_eq!(bare("a:4161"), "a:4161");
    }
}
