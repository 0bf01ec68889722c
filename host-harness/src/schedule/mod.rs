//! When an instance is polled.
//!
//! What: queues of what is due, the places, the arithmetic of intervals, and how long to wait after a failure; all of it pure, told
//! the time and never asking for it.
//! Why apart from who polls: years of polling by thousands of instances can be played through in a test.
//! Not guaranteed: that a poll begins when it is due; it waits for its turn while all places are taken.

mod back_off;
mod interval;
mod places;
mod queue;

pub use back_off::{BackOff, LONGEST_BACK_OFF, LONGEST_RETRY_AFTER, Outcome, Wait};
pub use interval::{fraction, next_tick, spread};
pub use places::{Next, Places};
pub use queue::Queue;
