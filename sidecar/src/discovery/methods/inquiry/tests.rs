use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, advance};

use super::*;
use crate::resilience::idempotency::Idempotency;

/// An upstream with a script, and what was asked and told.
#[derive(Default)]
struct Scene {
    reply: RefCell<Option<Reply>>,
    asked: Cell<u32>,
    told: RefCell<Vec<usize>>,
}

impl Scene {
    fn replies(&self, reply: Reply) {
        *self.reply.borrow_mut() = Some(reply);
    }

    fn inquiry(self: &Rc<Self>) -> (Inquiry, JoinHandle<()>) {
        let (changed, changes) = watch::channel(());
        let (asked, told) = (self.clone(), self.clone());
        let ask = move || {
            asked.asked.set(asked.asked.get() + 1);
            let reply = asked.reply.borrow().clone();
            async move { reply.unwrap_or(Reply::Failed("no script".into())) }
        };
        let tell = move |methods: Methods| {
            told.told.borrow_mut().push(methods.len());
            async {}
        };
        let task = spawn_local(stand("user-service".into(), TRIES, changes, ask, tell));
        let abort = task.abort_handle();
        (Inquiry { instances: BTreeSet::new(), changed, task: abort }, task)
    }
}

fn one(name: &str) -> Methods {
    let mut methods = Methods::default();
    methods.keep(format!("/p.S/{name}"), Idempotency::Safe);
    methods
}

fn ports(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect()
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// On paused time: everything that is due within so long has happened.
async fn pass(time: Duration) {
    let end = Instant::now() + time;
    tokio::time::sleep_until(end).await;
    advance(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_instances_are_asked_at_once_and_the_same_ones_not_again() {
    local(async {
        let scene = Rc::new(Scene::default());
        scene.replies(Reply::Known(one("Get")));
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances([]);
        pass(Duration::from_secs(60)).await;
        assert_eq!(scene.asked.get(), 0, "nobody is there to ask");
        inquiry.instances(ports(&[1, 2]));
        pass(Duration::from_millis(1)).await;
        inquiry.instances(ports(&[2, 1]));
        pass(Duration::from_secs(600)).await;
        assert_eq!((scene.asked.get(), &*scene.told.borrow()), (1, &vec![1]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_one_question_and_what_is_the_same_is_not_told() {
    local(async {
        let scene = Rc::new(Scene::default());
        scene.replies(Reply::Known(one("Get")));
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_millis(1)).await;
        for port in 2..20 {
            inquiry.instances(ports(&[1, port]));
            pass(Duration::from_millis(20)).await;
        }
        pass(SETTLED * 10).await;
        assert_eq!((scene.asked.get(), scene.told.borrow().len()), (2, 1));
        scene.replies(Reply::Known(Methods::default()));
        inquiry.instances(ports(&[1]));
        pass(SETTLED * 4).await;
        assert_eq!(*scene.told.borrow(), [1, 0], "a later version says less");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_without_reflection_is_asked_again_only_when_its_instances_change() {
    local(async {
        let scene = Rc::new(Scene::default());
        scene.replies(Reply::NoReflection);
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_secs(3600)).await;
        assert_eq!(scene.asked.get(), 1);
        scene.replies(Reply::Known(one("Get")));
        inquiry.instances(ports(&[2]));
        pass(SETTLED * 4).await;
        assert_eq!(scene.told.borrow().last(), Some(&1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_is_asked_again_less_and_less_often_then_no_more() {
    local(async {
        let scene = Rc::new(Scene::default());
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_secs(3)).await;
        let early = scene.asked.get();
        assert!((3..=5).contains(&early), "{early}");
        pass(Duration::from_secs(3600)).await;
        assert_eq!(scene.asked.get(), TRIES);
        assert!(scene.told.borrow().is_empty(), "a failure takes nothing away");
        scene.replies(Reply::Known(one("Get")));
        inquiry.instances(ports(&[1, 2]));
        pass(SETTLED * 4).await;
        assert_eq!(*scene.told.borrow(), [1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_while_a_failed_question_waits_is_not_missed() {
    local(async {
        let scene = Rc::new(Scene::default());
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_secs(40)).await;
        scene.replies(Reply::Known(one("Get")));
        inquiry.instances(ports(&[2]));
        pass(SETTLED * 4).await;
        assert_eq!(*scene.told.borrow(), [1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_question_ends_with_who_asks_it() {
    local(async {
        let scene = Rc::new(Scene::default());
        let (inquiry, task) = scene.inquiry();
        drop(inquiry);
        let _ended = task.await;
        assert_eq!(Rc::strong_count(&scene), 1);
    })
    .await;
}
