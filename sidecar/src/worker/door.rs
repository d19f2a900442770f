//! One accepted connection as its worker knows it: who is at the other end, and how to tell it
//! that it is to end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use certs::Peer;
use rustls::pki_types::CertificateDer;

use crate::call::control::Calls;

/// An accepted connection.
#[derive(Debug, Default)]
pub struct Door {
    /// The calls that are open on it.
    pub calls: Rc<Calls>,
    /// Who is at the other end; none on loopback.
    pub guest: Option<Guest>,
    closing: Cell<bool>,
    /// The guest is trusted no more.
    distrusted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A peer of the mesh.
#[derive(Debug)]
pub struct Guest {
    /// What its certificate said.
    pub peer: Peer,
    /// The certificate itself: judged again when roots change.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Door {
    /// A door to this peer.
    pub fn new(guest: Option<Guest>) -> Rc<Self> {
        Rc::new(Self { guest, ..Self::default() })
    }

    /// Lets no new call in; those that are open may end.
    pub fn close(&self) {
        self.closing.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Lets no new call in, whatever the other end has understood of it.
    pub fn distrust(&self) {
        self.distrusted.set(true);
        self.close();
    }

    /// Whether the guest is trusted no more.
    pub fn is_distrusted(&self) -> bool {
        self.distrusted.get()
    }

    /// Whether it lets no new call in.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether it is closing; else the task is woken when it is.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> bool {
        if !self.closing.get() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
        }
        self.closing.get()
    }
}
