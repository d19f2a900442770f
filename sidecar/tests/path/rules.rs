//! Rules by path, and paths that apps read as others.

use std::cell::RefCell;
use std::rc::Rc;

use http::Request;

use super::net::{Client, Mesh, allow, app, echo, request};

/// What an app may read as `/x/y`.
const SPELLINGS: [&str; 9] = [
    "/x/y",
    "//x/y",
    "/%78/y",
    "/./x/y",
    "/z/../x/y",
    "/x//y",
    "/x%2Fy",
    "/x/%2e/y",
    "/z%5c..%2Fx/y",
];

/// A mesh with these rules, and the paths that its app gets.
fn mesh(rules: &str) -> (Mesh, Rc<RefCell<Vec<String>>>) {
    let mesh = Mesh::with_app(rules);
    mesh.serve_inbound();
    mesh.echo.set_intentions(allow(&["web"]));
    let paths = Rc::new(RefCell::new(Vec::new()));
    let seen = paths.clone();
    app(&mesh, move |request, respond| {
        seen.borrow_mut().push(request.uri().path().to_owned());
        echo(request, respond)
    });
    (mesh, paths)
}

fn to(path: &str) -> Request<()> {
    request().uri(format!("http://echo{path}")).body(()).unwrap()
}

async fn status(client: &mut Client, path: &str) -> String {
    client.call(to(path), b"").await.unwrap().status().0
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_spelling_of_a_path_steps_around_its_rate() {
    for rule in ["path = \"/x/y\"", "prefix = \"/x/\"", "path = \"/%78//y\""] {
        let (mesh, paths) =
            mesh(&format!("[[inbound.rate]]\nlimit = \"9/h\"\nmatch = {{ {rule} }}\n"));
        let mut client = mesh.peer("web", &mesh.echo).await;
        for path in SPELLINGS {
            assert_eq!(status(&mut client, path).await, "0", "{path}");
        }
        assert_eq!(*paths.borrow(), SPELLINGS, "the app gets the path as it came");
        for path in SPELLINGS {
            assert_eq!(status(&mut client, path).await, "8", "{path} by {rule}");
        }
        for other in ["/X/y", "/z/x/y", "/x%25/y", "/x/../y"] {
            let is_below = rule.starts_with("prefix") && other == "/x/../y";
            let expected = if is_below { "8" } else { "0" };
            assert_eq!(status(&mut client, other).await, expected, "{other} by {rule}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_spelling_of_a_path_steps_around_its_fault() {
    let (mesh, paths) =
        mesh("[[inbound.fault]]\nabort = \"data_loss\"\nmatch = { path = \"/x/y\" }\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    for path in SPELLINGS {
        assert_eq!(status(&mut client, path).await, "15", "{path}");
    }
    assert_eq!(status(&mut client, "/x/y/z").await, "0");
    assert_eq!(*paths.borrow(), ["/x/y/z"]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_route_takes_each_spelling_of_its_path() {
    let mesh = Mesh::with_caller(
        "[[upstreams.echo.route]]\nmatch = { path = \"/x/y\" }\nfault = { abort = \"data_loss\" }\n",
    );
    let mut client = mesh.client().await;
    for path in SPELLINGS {
        assert_eq!(status(&mut client, path).await, "15", "{path}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_route_is_not_for_a_path_that_only_begins_like_it() {
    let mesh = Mesh::with_caller(
        "[[upstreams.echo.route]]\nmatch = { prefix = \"/x/\" }\nfault = { abort = \"data_loss\" }\n",
    );
    let mut client = mesh.client().await;
    for path in SPELLINGS {
        assert_eq!(status(&mut client, path).await, "15", "{path}");
    }
    for path in ["/x/..%2Fdelete", "/x/../delete", "/x/%2e%2e/delete"] {
        assert_ne!(status(&mut client, path).await, "15", "{path}");
    }
}
