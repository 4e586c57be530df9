//! Outcomes on their way to JavaScript, in a few arrays.

use std::sync::Arc;

use libmq::{Receipt, Result};
use napi::Env;
use napi::bindgen_prelude::{Null, Unknown};

use crate::client::NativeClient;
use crate::event;
use crate::gate::Part;
use crate::problem::Problem;
use crate::runtime::{GroupResult, Outcome};
use crate::subscription::{NativeSubscription, SubscriptionHandle};
use crate::value::{self, Raw};

/// Outcomes on their way to JavaScript.
#[derive(Default)]
pub(crate) struct Drained {
    receipts: Vec<u32>,
    offsets: Vec<u64>,
    brokers: Vec<Arc<str>>,
    problems: Vec<Raw>,
    failures: Vec<Raw>,
    values: Vec<Raw>,
}

impl Drained {
    pub(crate) fn add(&mut self, env: &Env, number: u32, outcome: Outcome) -> napi::Result<()> {
        let made = match outcome {
            Outcome::Published(client, result) => {
                client.admit();
                match result {
                    Ok(stored) => {
                        let broker = self.broker(&stored.broker());
                        self.receipts.extend([number, words(stored.places().count())]);
                        stored.places().for_each(|place| self.place(broker, place));
                        return Ok(());
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Outcome::Delivered(result) => match result {
                Ok(batch) => Ok(SubscriptionHandle::batch(env, batch)?),
                Err(error) => Err(error.into()),
            },
            Outcome::Happened(events) => Ok(event::values(env, events)?),
            Outcome::Subscribed(client, result) => {
                client.opened();
                match result {
                    Ok(handle) => Ok(value::value(env, NativeSubscription::new(handle))?),
                    Err(error) => Err(error.into()),
                }
            }
            Outcome::Connected(Ok(handle)) => Ok(value::value(env, NativeClient::new(handle))?),
            Outcome::Called(Ok(text)) => Ok(value::value(env, text)?),
            Outcome::Connected(Err(error)) | Outcome::Called(Err(error)) => Err(error.into()),
            Outcome::Failed(problem) => Err(problem),
            // They have numbers of their own: `add_group`.
            Outcome::Grouped(..) => return Ok(()),
        };
        let number = value::value(env, number)?;
        match made {
            Ok(made) => self.values.extend([number, made]),
            Err(problem) => {
                self.failures.push(number);
                self.failures.extend(values_of(env, problem)?);
            }
        }
        Ok(())
    }

    /// Adds the outcomes of publishes that went together.
    pub(crate) fn add_group(&mut self, env: &Env, parts: &[Part], result: GroupResult) -> napi::Result<()> {
        match result {
            GroupResult::Together(stored) => {
                let broker = self.broker(&stored.broker());
                let mut places = stored.places();
                for part in parts {
                    let messages = part.messages();
                    self.receipts.extend([part.task, words(messages)]);
                    places.by_ref().take(messages).for_each(|place| self.place(broker, place));
                }
            }
            GroupResult::Each(results) => {
                let mut results = results.into_iter();
                for part in parts {
                    let messages = part.messages();
                    self.receipts.extend([part.task, words(messages)]);
                    results.by_ref().take(messages).try_for_each(|result| self.result(env, result))?;
                }
            }
        }
        Ok(())
    }

    fn result(&mut self, env: &Env, result: Result<Receipt>) -> napi::Result<()> {
        match result {
            Ok(Receipt { offset, duplicate, broker }) => {
                let broker = self.broker(&broker);
                self.place(broker, (offset, duplicate));
            }
            Err(error) => {
                self.receipts.push(words(self.problems.len()) << 3 | 4);
                self.offsets.push(0);
                self.problems.extend(values_of(env, error.into())?);
            }
        }
        Ok(())
    }

    /// Adds where a message is stored, and whether it was before.
    fn place(&mut self, broker: u32, (offset, is_duplicate): (Option<u64>, bool)) {
        let flags = u32::from(is_duplicate) | u32::from(offset.is_some()) << 1;
        self.receipts.push(broker << 3 | flags);
        self.offsets.push(offset.unwrap_or_default());
    }

    /// The place of a broker's name in `brokers`.
    fn broker(&mut self, name: &Arc<str>) -> u32 {
        let known = self.brokers.iter().position(|broker| Arc::ptr_eq(broker, name));
        words(known.unwrap_or_else(|| {
            self.brokers.push(Arc::clone(name));
            self.brokers.len() - 1
        }))
    }

    pub(crate) fn into_value(self, env: &Env) -> napi::Result<Unknown<'static>> {
        let parts = [
            part(env, self.receipts.is_empty(), || value::words(env, &self.receipts))?,
            part(env, self.receipts.is_empty(), || value::wide_words(env, &self.offsets))?,
            part(env, self.receipts.is_empty(), || {
                value::value(env, self.brokers.iter().map(ToString::to_string).collect::<Vec<_>>())
            })?,
            part(env, self.problems.is_empty(), || value::array(env, &self.problems))?,
            part(env, self.failures.is_empty(), || value::array(env, &self.failures))?,
            part(env, self.values.is_empty(), || value::array(env, &self.values))?,
        ];
        value::returned(env, value::array(env, &parts)?)
    }
}

/// A value, or `null` where there is nothing in it: most outcomes are of one kind.
fn part(env: &Env, is_empty: bool, value: impl FnOnce() -> napi::Result<Raw>) -> napi::Result<Raw> {
    if is_empty { value::value(env, Null) } else { value() }
}

/// A count as a word: no drain has 2^32 of anything.
fn words(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Code, message and retry.
fn values_of(env: &Env, Problem { code, message, retry }: Problem) -> napi::Result<[Raw; 3]> {
    Ok([value::value(env, code)?, value::value(env, message)?, value::value(env, retry)?])
}
