//! What is asked of a server: one file for each family of workloads. How often, and what becomes of the latencies, is the
//! engine's business.

pub(crate) mod churn;
pub(crate) mod kube;
pub(crate) mod lease;
pub(crate) mod list;
pub(crate) mod maintenance;
pub(crate) mod mixed;
pub(crate) mod put;
pub(crate) mod range;
pub(crate) mod txn;
pub(crate) mod watch;

use std::sync::Arc;

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::engine::Thread;
use crate::error::Failure;
use crate::keys::{Keys, Order, Values};

/// The largest value that etcd takes in its default settings, with room for the rest of the request.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Which keys and values a workload uses.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Number of different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// In which order keys are chosen
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,
    /// Bytes in a value, up to 1 MiB
    #[arg(long, default_value_t = 256, value_parser = value_size)]
    value_size: usize,
}

/// What every workload is told.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) prefix: String,
    pub(crate) seed: u64,
}

/// Keys and values of a workload.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) keys: Arc<Keys>,
    pub(crate) values: Arc<Values>,
}

impl DataArgs {
    pub(crate) fn data(&self, common: &Common) -> Data {
        // Another number of keys is another set: a count must not find what an earlier run left.
        let prefix = format!("{}k{}/", common.prefix, self.keys);
        Data {
            keys: Arc::new(Keys::new(&prefix, self.keys, self.order)),
            values: Arc::new(Values::new(self.value_size, common.seed)),
        }
    }
}

impl Data {
    /// The next key and a value for it.
    fn draw(&self, thread: &Thread) -> (Bytes, Bytes) {
        let random: &mut Xoshiro256PlusPlus = &mut thread.random.borrow_mut();
        (self.keys.at(self.keys.choose(random)), self.values.draw(random))
    }
}

fn value_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= VALUE_BYTES_MAX => Ok(size),
        Ok(size) => Err(format!("{size} bytes are more than etcd takes: at most {VALUE_BYTES_MAX}")),
        Err(error) => Err(format!("{error}")),
    }
}

/// An answer that contradicts what was written before.
fn wrong_answer(thread: &Thread, what: String) -> Failure {
    Failure::Foreign { endpoint: thread.connections[0].endpoint().to_owned(), what }
}
