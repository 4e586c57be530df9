//! `grpc.health.v1`: a broker serves while it can do all that is asked of it, and is not being drained.

use std::time::Duration;

use mq_core::Broker;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Interval at which the broker's health is read.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Keeps the health of `services`, and of the server as a whole, until `stop`. Without a broker they serve
/// until then.
pub(crate) async fn follow(
    reporter: HealthReporter,
    broker: Option<Broker>,
    services: Vec<&'static str>,
    stop: CancellationToken,
) {
    let mut reported = None;
    loop {
        let serves = broker.as_ref().is_none_or(|broker| !broker.is_draining() && broker.health().is_ok());
        if reported != Some(serves) {
            reported = Some(serves);
            report(&reporter, &services, serves).await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(LOOK_EVERY) => {}
        }
    }
    report(&reporter, &services, false).await;
}

async fn report(reporter: &HealthReporter, services: &[&'static str], serves: bool) {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services.iter().chain(&[""]) {
        reporter.set_service_status(*service, status).await;
    }
}
