//! openraft on tokio, with nothing in it that a seed does not decide.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioInstant, TokioRuntime};
use tokio::task::JoinHandle;

use super::disk::Work;

/// Tokio, but for the random numbers: the same ones each time.
///
/// openraft draws one number in its life, the election timeout of its own timer. That timer is off here (see
/// `election.rs`, which decides when to elect from the seed in its settings), so nothing depends on the number, and a
/// run under the simulator replays exactly.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CoordRuntime;

thread_local! {
    static ON_LOCAL_SET: Cell<bool> = const { Cell::new(false) };
    static HOLD_UP: Cell<HoldUp> = const { Cell::new(|| None) };
}

/// Asked whenever a task is to go on: what it has to wait for first, if anything.
pub type HoldUp = fn() -> Option<Work<'static>>;

/// From now on, what this thread spawns goes to the `LocalSet` that is being polled. A simulator keeps the tasks of each
/// member in one, so that it can stop and end them together, as a process.
pub fn spawn_on_local_set() {
    ON_LOCAL_SET.set(true);
}

/// Likewise, and each of these tasks is held up by `hold_up`: on a busy machine a thread gets its turn late, and the
/// others go on meanwhile.
pub fn hold_up_tasks(hold_up: HoldUp) {
    HOLD_UP.set(hold_up);
}

/// A task that is held up, as [`hold_up_tasks`] has it.
pub struct HeldUp<F> {
    task: Pin<Box<F>>,
    by: Option<Work<'static>>,
}

impl<F> HeldUp<F> {
    /// One that has not begun.
    pub fn new(task: F) -> HeldUp<F> {
        HeldUp {
            task: Box::pin(task),
            by: None,
        }
    }
}

impl<F: Future> Future for HeldUp<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.by.is_none() {
            self.by = HOLD_UP.get()();
        }
        if let Some(by) = &mut self.by {
            ready!(by.as_mut().poll(context));
            self.by = None;
        }
        self.task.as_mut().poll(context)
    }
}

/// Spawns a task of this member.
pub(crate) fn spawn<T>(future: T) -> JoinHandle<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    match ON_LOCAL_SET.get() {
        true => tokio::task::spawn_local(HeldUp::new(future)),
        false => tokio::spawn(future),
    }
}

impl AsyncRuntime for CoordRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SplitMix;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> SplitMix {
        SplitMix { state: 0 }
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}

/// SplitMix64: a counter, scrambled.
#[derive(Debug)]
pub struct SplitMix {
    state: u64,
}

impl rand_core::RngCore for SplitMix {
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand_core::impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
