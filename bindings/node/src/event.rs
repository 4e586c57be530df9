//! Events of connections, as JavaScript gets them.

use std::rc::Rc;
use std::time::Duration;

use libmq::{ConnectionEvent, Failure};
use napi::Env;
use napi::bindgen_prelude::{Null, Unknown};

use crate::problem::Problem;
use crate::runtime::{Environment, Outcome};
use crate::tasks::Task;
use crate::value::{self, Raw};

/// Polls a task whose outcome is events, for the first time. Returns them or `null`.
pub(crate) fn poll(
    env: &Env,
    environment: &Rc<Environment>,
    number: u32,
    task: Task<Outcome>,
) -> napi::Result<Unknown<'static>> {
    let happened = match environment.poll(number, task) {
        Some(Outcome::Happened(happened)) => values(env, happened)?,
        _ => value::value(env, Null)?,
    };
    value::returned(env, happened)
}

/// A list for each event: `[broker, message timeout, longest message timeout]` in milliseconds of a
/// connection that is ready, `[broker]` of one that ended, and what [`failure`] has of what failed.
pub(crate) fn values(env: &Env, events: Vec<ConnectionEvent>) -> napi::Result<Raw> {
    let ms = |time: Duration| value::value(env, time.as_secs_f64() * 1000.0);
    let text = |text: &str| value::value(env, text.to_owned());
    let events = events.into_iter().map(|event| match event {
        ConnectionEvent::Connected { broker, msg_timeout, max_msg_timeout } => {
            value::array(env, &[text(&broker)?, ms(msg_timeout)?, ms(max_msg_timeout)?])
        }
        ConnectionEvent::Closed { broker } => value::array(env, &[text(&broker)?]),
        ConnectionEvent::Failed(failed) => value::array(env, &failure(env, failed)?),
    });
    value::array(env, &events.collect::<napi::Result<Vec<_>>>()?)
}

/// Broker, id of the message, code, text and retry.
pub(crate) fn failure(env: &Env, failure: Failure) -> napi::Result<[Raw; 5]> {
    let id = failure.message.map(|id| String::from_utf8_lossy(&id.to_hex()).into_owned());
    let Problem { code, message, retry } = failure.error.into();
    Ok([
        value::value(env, failure.broker.to_string())?,
        value::value(env, id)?,
        value::value(env, code)?,
        value::value(env, message)?,
        value::value(env, retry)?,
    ])
}
