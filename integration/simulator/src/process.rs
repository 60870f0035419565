//! A process: all tasks of one node, which run, stand still and end together.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::lifeline::Lifeline;

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
    waker: Option<Waker>,
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
            // A process without tasks still has its listeners.
            let _ = Pin::new(&mut self.tasks).poll(context);
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
        tasks.spawn_local(main);
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

    /// It goes on.
    pub fn go_on(&self) {
        let mut gate = self.gate.borrow_mut();
        gate.stopped = false;
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
