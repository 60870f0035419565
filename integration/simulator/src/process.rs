//! A process: all tasks of one node, which run, stand still and end together.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coord::raft::{HeldUp, Work};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use crate::dice::Dice;
use crate::lifeline::Lifeline;

thread_local! {
    /// Whose tasks have their turn.
    static POLLED: RefCell<Option<Rc<RefCell<Gate>>>> = const { RefCell::new(None) };
}

/// What holds up the task that has its turn, if its machine is busy.
pub fn hold_up() -> Option<Work<'static>> {
    POLLED.with_borrow(|gate| gate.as_ref()?.borrow().hold_up())
}

/// See the module.
#[derive(Debug)]
pub struct Process {
    life: Lifeline,
    gate: Rc<RefCell<Gate>>,
    driver: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Gate {
    stopped: bool,
    busy: Option<(Dice, Instant)>,
    waker: Option<Waker>,
}

impl Gate {
    /// Mostly nothing, often a moment, and rarely longer than an election takes.
    fn hold_up(&self) -> Option<Work<'static>> {
        let (dice, until) = self.busy.as_ref()?;
        if Instant::now() >= *until {
            return None;
        }
        let time = match dice.within(0..400) {
            0 => dice.ms(50..3000),
            1..20 => dice.ms(0..4),
            _ => return None,
        };
        Some(Box::pin(sleep(time)))
    }
}

struct Driver {
    tasks: LocalSet,
    life: Lifeline,
    gate: Rc<RefCell<Gate>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut gate = self.gate.borrow_mut();
            gate.waker = Some(context.waker().clone());
            if gate.stopped && !self.life.is_over() {
                return Poll::Pending;
            }
        }
        if !self.life.is_over() {
            POLLED.set(Some(self.gate.clone()));
            // A process without tasks still has its listeners.
            let _ = Pin::new(&mut self.tasks).poll(context);
            POLLED.set(None);
        }
        match self.life.is_over() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Process {
    /// Starts one with its first task. Whatever that spawns on its `LocalSet` is the process's too.
    pub fn start(life: Lifeline, main: impl Future<Output = ()> + 'static) -> Process {
        let tasks = LocalSet::new();
        tasks.spawn_local(HeldUp::new(main));
        let gate = Rc::new(RefCell::new(Gate::default()));
        let driver = Driver {
            tasks,
            life: life.clone(),
            gate: gate.clone(),
        };
        Process {
            life,
            gate,
            driver: spawn_local(driver),
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.life.is_over()
    }

    /// Nothing of it runs until it goes on, as after SIGSTOP.
    pub fn stop(&self) {
        self.gate.borrow_mut().stopped = true;
    }

    /// Each of its tasks may be held up, for so long.
    pub fn be_busy(&self, dice: Dice, time: Duration) {
        self.gate.borrow_mut().busy = Some((dice, Instant::now() + time));
    }

    /// It goes on, and has its machine for itself.
    pub fn go_on(&self) {
        let mut gate = self.gate.borrow_mut();
        gate.stopped = false;
        gate.busy = None;
        if let Some(waker) = gate.waker.take() {
            waker.wake();
        }
    }

    /// It ends at once, as after SIGKILL; returns when nothing of it is left.
    pub async fn kill(self) {
        self.life.end();
        self.go_on();
        // It ends by itself; a panic in there was caught by the task that it belongs to.
        let _ = self.driver.await;
    }
}
