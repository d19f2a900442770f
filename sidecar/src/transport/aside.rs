//! What a connection's task waits for beside the connection: asked once it has something to say, not
//! at each read and write. A timer of minutes would be looked at for every call.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled when it was woken itself, whatever else wakes its task.
pub struct Aside<F> {
    future: Pin<Box<F>>,
    call: Arc<Call>,
    /// Of the call.
    waker: Waker,
    /// Whom the call wakes.
    task: Waker,
}

/// It has something to say.
struct Call {
    is_made: AtomicBool,
    task: Mutex<Waker>,
}

impl<F> Aside<F> {
    /// A future beside others of its task.
    pub fn new(future: F) -> Self {
        let task = Waker::noop().clone();
        let call = Call { is_made: AtomicBool::new(true), task: Mutex::new(task.clone()) };
        let call = Arc::new(call);
        Self { future: Box::pin(future), waker: call.clone().into(), call, task }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.will_wake(cx.waker()) {
            this.task = cx.waker().clone();
            *this.call.task.lock().unwrap_or_else(PoisonError::into_inner) = cx.waker().clone();
        }
        if !this.call.is_made.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // First, so that a call that is made from here on is another one.
        this.call.is_made.swap(false, Ordering::AcqRel);
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_made.store(true, Ordering::Release);
        // Not taken: the next call wakes it, too.
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_when_it_was_woken_and_not_before() {
        let (polls, begin) = (Cell::new(0), Instant::now());
        let mut timers = pin!(async {
            sleep(Duration::from_secs(60)).await;
            sleep(Duration::from_secs(60)).await;
        });
        let mut aside = Aside::new(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            timers.as_mut().poll(cx)
        }));
        for _ in 0..5 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx))).await.is_pending());
        }
        assert_eq!(polls.get(), 1);
        aside.await;
        assert_eq!((polls.get(), begin.elapsed().as_secs()), (3, 120));
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_the_task_that_polled_it_last() {
        let mut aside = Aside::new(sleep(Duration::from_secs(1)));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut aside).poll(&mut nobody).is_pending());
        tokio::spawn(aside).await.unwrap();
    }

    #[test]
    fn no_call_is_lost_that_is_made_while_it_is_polled() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..200 {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let teller = std::thread::spawn(move || (0..50).for_each(|n| tell.send(n).unwrap()));
            let told = Aside::new(async move { while told.recv().await.is_some() {} });
            runtime.block_on(told);
            teller.join().unwrap();
        }
    }
}
