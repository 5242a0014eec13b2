//! Tells a worker's connections that the process is to stop, and knows when they are gone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::Notify;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Drain {
    is_draining: Cell<bool>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Option<Waker>>>,
    gone: Notify,
}

/// A connection's entry, gone when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    drain: Rc<Drain>,
    id: u64,
}

impl Drain {
    pub(super) fn register(self: &Rc<Self>) -> Registration {
        let id = self.next.replace(self.next.get() + 1);
        self.wakers.borrow_mut().insert(id, None);
        Registration { drain: Rc::clone(self), id }
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.wakers.borrow().len()
    }

    /// Tells all connections.
    pub(super) fn begin(&self) {
        self.is_draining.set(true);
        self.wakers.borrow_mut().values_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    /// Waits until the last connection is gone.
    pub(super) async fn finished(&self) {
        while self.connections() > 0 {
            self.gone.notified().await;
        }
    }
}

impl Registration {
    /// Remembers whom to wake. A task's waker stays the same, so the first poll is enough.
    pub(super) fn set_waker(&self, waker: &Waker) {
        self.drain.wakers.borrow_mut().insert(self.id, Some(waker.clone()));
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.drain.wakers.borrow_mut().remove(&self.id);
        self.drain.gone.notify_one();
    }
}
