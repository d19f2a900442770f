use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Mutex;

use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, advance};
use tracing::Level;
use tracing_subscriber::util::SubscriberInitExt;

use super::*;

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
        let task = spawn_local(stand("user-service".into(), changes, ask, tell));
        let abort = task.abort_handle();
        (Inquiry { instances: BTreeSet::new(), changed, task: abort }, task)
    }
}

fn one(name: &str) -> Methods {
    let mut methods = Methods::default();
    methods.keep(format!("/p.S/{name}"));
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
async fn a_question_that_fails_is_asked_again_less_and_less_often_and_never_given_up() {
    local(async {
        let scene = Rc::new(Scene::default());
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_secs(3)).await;
        let early = scene.asked.get();
        assert!((3..=5).contains(&early), "{early}");
        pass(Duration::from_secs(600)).await;
        for _ in 0..10 {
            let before = scene.asked.get();
            pass(Duration::from_secs(3600)).await;
            let hour = scene.asked.get() - before;
            assert!((8..=24).contains(&hour), "every 5 minutes, give or take a half: {hour}");
        }
        assert!(scene.told.borrow().is_empty(), "a failure takes nothing away");
        scene.replies(Reply::Known(one("Get")));
        pass(AGAIN_LAST * 3 / 2).await;
        assert_eq!(*scene.told.borrow(), [1]);
    })
    .await;
}

/// What is said to people, from here to the end of the test.
fn said() -> (impl Fn(&str) -> usize, tracing::subscriber::DefaultGuard) {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(Level::INFO);
    let guard = subscriber.with_writer(move || writer.clone()).finish().set_default();
    let count = move |part: &str| {
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap().matches(part).count()
    };
    (count, guard)
}

#[tokio::test(start_paused = true)]
async fn people_are_told_once_that_reflection_is_silent_and_once_that_it_answers() {
    let (said, _guard) = said();
    let (silent, answers) = ("does not answer (no script)", "its reflection answers now");
    local(async {
        let scene = Rc::new(Scene::default());
        let (mut inquiry, _task) = scene.inquiry();
        inquiry.instances(ports(&[1]));
        pass(Duration::from_secs(10)).await;
        assert_eq!(said(silent), 0, "it may have started a moment ago");
        pass(Duration::from_secs(3600)).await;
        inquiry.instances(ports(&[2]));
        pass(Duration::from_secs(3600)).await;
        assert_eq!((said(silent), said(answers)), (1, 0));
        for _ in 0..3 {
            scene.replies(Reply::Known(one("Get")));
            pass(AGAIN_LAST * 3 / 2).await;
            inquiry.instances(ports(&[3]));
        }
        assert_eq!((said(silent), said(answers), said("user-service")), (1, 1, 3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn people_are_told_once_that_there_is_no_reflection() {
    let (said, _guard) = said();
    local(async {
        let scene = Rc::new(Scene::default());
        scene.replies(Reply::NoReflection);
        let (mut inquiry, _task) = scene.inquiry();
        for port in 1..10 {
            inquiry.instances(ports(&[port]));
            pass(SETTLED * 4).await;
        }
        assert_eq!((scene.asked.get(), said("has no reflection")), (9, 1));
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
