//! `outrigger up` with the demonstration mesh on ports of the test's own: user, product and order
//! service with their sidecars, and the sidecar `client`.

use std::net::SocketAddr;

use consul::api::{Action, Rule};
use consul::{Address, Client, Config, Token};
use proto::user::v1::CreateUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::authority::Authority;
use super::mark::Mark;
use super::ports::free;
use super::process::Process;
use super::programs::{outrigger, service};
use super::sidecar::channel;

/// The services that have an app.
pub(crate) const SERVICES: [&str; 3] = ["user-service", "product-service", "order-service"];

/// Who may call whom, as the demonstration mesh has it.
const ALLOWED: [(&str, &str); 5] = [
    ("client", "user-service"),
    ("client", "product-service"),
    ("client", "order-service"),
    ("order-service", "user-service"),
    ("order-service", "product-service"),
];

/// A mesh that runs.
pub(crate) struct Whole {
    pub(crate) up: Process,
    /// Where a person's client dials.
    pub(crate) client: SocketAddr,
    /// The embedded agent's.
    pub(crate) dns: SocketAddr,
    pub(crate) consul: Client,
    /// All that has come of it.
    pub(crate) mark: Mark,
    /// Every TCP port that something of it listens on.
    pub(crate) ports: Vec<u16>,
    _folder: TempDir,
}

impl Whole {
    /// On the embedded agent.
    pub(crate) async fn embedded() -> Self {
        Self::start(None).await
    }

    /// On a real Consul with ACLs.
    pub(crate) async fn on(consul: &Authority) -> Self {
        Self::start(Some(consul)).await
    }

    async fn start(real: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (client, [http, dns]) = (free(), [free(), free()]);
        let mut ports: Vec<u16> = [client, http, dns].iter().map(SocketAddr::port).collect();
        let text = mesh(client, real, || {
            ports.push(free().port());
            ports[ports.len() - 1]
        });
        std::fs::write(folder.path().join("mesh.toml"), text).unwrap();
        let mark = Mark::new();
        let mut command = outrigger();
        mark.put_on(command.arg("up").current_dir(folder.path()));
        command.arg(format!("--consul-http={http}")).arg(format!("--consul-dns={dns}"));
        if let Some(real) = real {
            command.env("CONSUL_HTTP_ADDR", real.http.to_string());
            command.env("CONSUL_HTTP_TOKEN", real.operator());
        }
        let consul = match real {
            Some(real) => real.manager(),
            None => consul_at(http, Token::Anonymous),
        };
        let mut up = Process::start("up", &mut command);
        up.line(&["Try, in another terminal"]).await;
        Self { up, client, dns, consul, mark, ports, _folder: folder }
    }

    /// A client's connection to a service of the mesh.
    pub(crate) fn channel(&self, service: &str) -> Channel {
        channel(self.client, service)
    }

    /// A user to ask for: the first one, "1".
    pub(crate) async fn with_a_user(self) -> Self {
        let mut client = UserServiceClient::new(self.channel("user-service"));
        let ada =
            CreateUserRequest { email: "ada@example.com".into(), name: "Ada".into(), role: 1 };
        let user = client.create_user(ada).await.unwrap().into_inner().user.unwrap();
        assert_eq!(user.id, "1");
        self
    }

    /// Turns an intention.
    pub(crate) async fn intend(&self, source: &str, destination: &str, action: Action) {
        let rule = Rule::Action(action);
        self.consul.connect().set_intention(source, destination, &rule).await.unwrap();
    }

    /// Ends it as Ctrl-C does.
    pub(crate) async fn end(mut self) {
        self.up.signal(Signal::INT);
        assert_eq!(self.up.ended().await.code(), Some(0), "{}", self.up.said());
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // Killed, it would leave the end of its processes to their guards; asked, it waits.
        if self.up.lives() {
            self.up.signal(Signal::INT);
            self.up.signal(Signal::INT);
        }
    }
}

/// A client of a Consul on loopback.
pub(crate) fn consul_at(http: SocketAddr, token: Token) -> Client {
    let address = Address::Tcp { host: http.ip().to_string(), port: http.port(), tls: false };
    Client::new(Config { address, token, ..Config::default() }).unwrap()
}

fn mesh(client: SocketAddr, real: Option<&Authority>, mut port: impl FnMut() -> u16) -> String {
    let token_file = |service: &str| match real {
        Some(real) => format!("token_file = {:?}\n", real.token_file(service)),
        None => String::new(),
    };
    let mut text = String::new();
    for name in SERVICES {
        let [app, inbound, outbound, admin] = [(); 4].map(|()| port());
        text.push_str(&format!(
            "[[service]]\nname = {name:?}\ncommand = [{:?}]\napp = {app}\ninbound = {inbound}\n\
             outbound = {outbound}\nadmin = {admin}\n{}env = {{ ADDR = \"{{app}}\", \
             DATABASE_URL = \"sqlite:{name}.db\", OUTBOUND = \"http://{{outbound}}\" }}\n",
            service(name),
            token_file(name),
        ));
    }
    text.push_str(&format!(
        "[[service]]\nname = \"client\"\noutbound = {}\nadmin = {}\n{}",
        client.port(),
        port(),
        token_file("client"),
    ));
    for (source, destination) in ALLOWED {
        text.push_str(&format!(
            "[[intention]]\nsource = {source:?}\ndestination = {destination:?}\n\
             action = \"allow\"\n"
        ));
    }
    text
}
