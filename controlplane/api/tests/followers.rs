//! Two processes on one PostgreSQL, of which one leads: what reaches the other is handed on and answered the same, whole or not at
//! all. Where a leader has to misbehave, the test is the leader. With whole processes that are killed: `control/tests/chaos`.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::{Artifacts, Member, Membership, RateLimit, Shutdown, Validator};
use e2e::postgres::PostgresServer;
use plane_abi::seal::Key;
use push::Ca;
use serde_json::{Value, json};
use store::{Database, Store};
use support::{Answer, exchange};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const FORWARDED: &str = "selvage-forwarded";
/// What must come comes within this, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

/// What the processes share.
struct Home {
    dir: TempDir,
    database: Database,
    account: String,
    token: String,
    _server: PostgresServer,
}

/// A process, as far as it is one of several.
struct Process {
    address: SocketAddr,
    membership: Membership,
    shutdown: Shutdown,
}

impl Home {
    /// None, after saying so, without PostgreSQL.
    async fn new(what: &str) -> Option<Home> {
        let server = PostgresServer::start(what)?;
        let database = Database::postgres(&server.url()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_in(dir.path(), &database).await.unwrap();
        let (account, created) = store.bootstrap("admin@example.com").await.unwrap().unwrap();
        store.close().await;
        Some(Home { dir, database, account: account.id.to_string(), token: created.secret, _server: server })
    }

    async fn store(&self) -> Store {
        Store::open_in(self.dir.path(), &self.database).await.unwrap()
    }

    /// Leads if nobody does, else follows.
    async fn process(&self, name: &str) -> Process {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dir = self.dir.path();
        let member = Member {
            store: self.store().await,
            artifacts: Artifacts::local(&dir.join("artifacts")).unwrap(),
            validator: Validator::new("/nonexistent/selvage-node".into()),
            env_key: Key::load_or_create(&dir.join("env.key")).unwrap(),
            platform_domain: "workers.localhost".to_owned(),
            platform_port: None,
            routes: dir.join(name),
            rate_limit: RateLimit::default(),
            pushed_max: 1000,
            ca: Ca::load_or_create(&dir.join("ca.key")).unwrap(),
            push_listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            address: address.to_string(),
        };
        let shutdown = Shutdown::new();
        let membership = member.start(shutdown.clone()).await.unwrap();
        tokio::spawn(api::serve(listener, membership.front.router(), shutdown.clone()));
        Process { address, membership, shutdown }
    }

    fn projects(&self) -> String {
        format!("/v1/accounts/{}/projects", self.account)
    }

    /// The operator's token, and more.
    fn headers(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let own =
            [("Authorization", format!("Bearer {}", self.token)), ("Content-Type", "application/json".to_owned())];
        let more = more.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(more).collect()
    }

    async fn get(&self, address: SocketAddr, path: &str) -> Answer {
        ask(address, "GET", path, &self.headers(&[]), b"").await
    }

    async fn post(&self, address: SocketAddr, path: &str, key: &str, body: &Value) -> Answer {
        let headers = self.headers(&[("Idempotency-Key", key)]);
        ask(address, "POST", path, &headers, body.to_string().as_bytes()).await
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    timeout(SOON, exchange(stream, method, path, headers, body)).await.expect("an answer")
}

#[tokio::test]
async fn what_reaches_a_follower_is_answered_as_the_leader_answers() {
    let Some(home) = Home::new("requests to a follower").await else { return };
    let (leader, follower) = (home.process("one").await, home.process("two").await);
    let both = [leader.address, follower.address];
    for path in ["/v1/whoami", "/v1/openapi.json", "/v1/plans", "/v1/nothing", "/v1/deployments/x", "/healthz"] {
        let [led, followed] = [home.get(both[0], path).await, home.get(both[1], path).await];
        assert_eq!((led.status, &led.body), (followed.status, &followed.body), "{path}");
    }
    let [led, followed] =
        [ask(both[0], "GET", "/v1/whoami", &[], b"").await, ask(both[1], "GET", "/v1/whoami", &[], b"").await];
    assert_eq!(led.expect(401).body, followed.expect(401).body);

    // Done once, whichever process is asked, and however often.
    let path = home.projects();
    let made = home.post(both[1], &path, "k1", &json!({"name": "once"})).await.expect(201);
    for address in both {
        let again = home.post(address, &path, "k1", &json!({"name": "once"})).await.expect(201);
        assert_eq!(again.body, made.body);
        assert!(again.head.to_ascii_lowercase().contains("idempotency-replayed: true"), "{}", again.head);
        home.post(address, &path, "k1", &json!({"name": "other"})).await.expect(422);
        home.post(address, &path, "k2", &json!({"name": "once"})).await.expect(409);
    }
    let race = json!({"name": "race"});
    let (a, b) = tokio::join!(home.post(both[0], &path, "k3", &race), home.post(both[1], &path, "k3", &race));
    assert_eq!(a.expect(201).body, b.expect(201).body);
    let listed = home.get(both[1], &path).await.expect(200);
    assert_eq!(listed.result().as_array().unwrap().len(), 2, "{}", listed.body);

    // The leader goes: who followed leads, with what was promised.
    leader.shutdown.stop();
    leader.membership.leave().await;
    let again = home.post(both[1], &path, "k1", &json!({"name": "once"})).await.expect(201);
    assert_eq!(again.body, made.body);
    assert_eq!(home.get(both[1], &path).await.expect(200).body, listed.body);
}

/// A tail of a deployment's logs; its handshake is done.
async fn tail(home: &Home, address: SocketAddr, deployment: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/deployments/{deployment}/logs/tail HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        home.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(SOON, stream.read_u8()).await.expect("an answer").expect("a head");
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    // RFC 6455 §1.3 has this key and its answer.
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    stream
}

async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An end by reset is one too.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it ends");
    bytes
}

#[tokio::test]
async fn a_tail_of_logs_goes_through_a_follower_both_ways() {
    let Some(home) = Home::new("log tails through a follower").await else { return };
    let (leader, follower) = (home.process("one").await, home.process("two").await);
    let project = home.post(follower.address, &home.projects(), "p", &json!({"name": "p"})).await.expect(201).id();
    let path = format!("/v1/projects/{project}/deployments");
    let made = home.post(follower.address, &path, "d", &json!({"name": "d", "subdomain": "d"})).await.expect(201);
    // The client says goodbye (1000, masked with zeros): the leader hears it, and ends the connection.
    let mut leaving = tail(&home, follower.address, &made.id()).await;
    leaving.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
    rest(leaving).await;
    // The leader says goodbye (1001): the client hears it.
    let left = tail(&home, follower.address, &made.id()).await;
    leader.membership.leave().await;
    let frame = rest(left).await;
    assert!(frame.len() > 4 && frame[0] == 0x88 && frame[2..4] == [0x03, 0xe9], "{frame:?}");
    assert!(frame.ends_with(b"the control plane is stopping"), "{frame:?}");
}

#[tokio::test]
async fn a_leader_that_does_not_answer_is_504_and_one_that_is_gone_503_and_nothing_is_done_twice_or_by_halves() {
    let Some(home) = Home::new("a leader that is gone").await else { return };
    // The leader is this test.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = home.store().await;
    let seen = store.leadership().await.unwrap();
    let led = store.take_over(&seen, &listener.local_addr().unwrap().to_string()).await.unwrap().expect("nobody else");
    let beats = tokio::spawn(async move {
        loop {
            led.beat().await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let follower = home.process("two").await;
    let path = home.projects();
    let body = json!({"name": "x"});

    // It takes the request and goes: it may have been done, so that it is not tried again.
    let asked = home.post(follower.address, &path, "k", &body);
    let taken = async {
        let (mut stream, _) = timeout(SOON, listener.accept()).await.expect("the request is handed on").unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "a whole head");
        }
        drop(stream);
        let again = timeout(Duration::from_millis(500), listener.accept()).await;
        assert!(again.is_err(), "it was handed on twice");
        String::from_utf8_lossy(&head).to_ascii_lowercase()
    };
    let (answer, head) = tokio::join!(asked, taken);
    let answer = answer.expect(504);
    assert_eq!(answer.error()["code"], model::code::TRY_AGAIN, "{}", answer.body);
    assert!(
        head.starts_with(&format!("post {path} ").to_ascii_lowercase()) && head.contains("idempotency-key: k"),
        "{head}"
    );
    assert_eq!(head.matches(FORWARDED).count(), 1, "{head}");
    assert!(!head.contains("127.0.0.1\r\n"), "the client's address is sealed: {head}");

    // It cannot be reached: 503, later. So is what somebody says was handed on already: no request goes in circles.
    drop(listener);
    let marked = home.headers(&[(FORWARDED, "1")]);
    let (gone, circling) = tokio::join!(
        home.post(follower.address, &path, "k", &body),
        ask(follower.address, "GET", "/v1/whoami", &marked, b"")
    );
    for answer in [gone.expect(503), circling.expect(503)] {
        assert!(answer.head.to_ascii_lowercase().contains("retry-after: "), "{}", answer.head);
        assert_eq!(answer.error()["code"], model::code::TRY_AGAIN, "{}", answer.body);
    }
    is_healthy(follower.address).await;

    // It says no more that it is well: who followed leads, and nothing was done of all that.
    beats.abort();
    let deadline = tokio::time::Instant::now() + SOON;
    let listed = loop {
        let listed = home.get(follower.address, &path).await;
        if listed.status == 200 {
            break listed;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody leads: {}", listed.expect(503).body);
    };
    assert_eq!(listed.result(), &json!([]));
    home.post(follower.address, &path, "k", &body).await.expect(201);
}

/// Whoever leads, the process answers for itself.
async fn is_healthy(address: SocketAddr) {
    let healthy = ask(address, "GET", "/healthz", &[], b"").await.expect(200);
    assert_eq!(healthy.body, json!("ok\n"));
}

/// Requests without a token from an address of this machine; gives their statuses.
async fn strangers(from: [u8; 4], to: SocketAddr, forwarded: Option<&str>, count: usize) -> Vec<u16> {
    let headers: Vec<_> = forwarded.iter().map(|value| (FORWARDED.to_owned(), value.to_string())).collect();
    let mut statuses = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), 0)).unwrap();
        let stream = socket.connect(to).await.unwrap();
        let answer = timeout(SOON, exchange(stream, "GET", "/v1/whoami", &headers, b"")).await.expect("an answer");
        assert!(matches!(answer.status, 401 | 429), "{}", answer.body);
        statuses.push(answer.status);
    }
    statuses
}

#[tokio::test]
async fn guesses_through_a_follower_are_their_clients_own() {
    let Some(home) = Home::new("guesses through a follower").await else { return };
    let (leader, follower) = (home.process("one").await, home.process("two").await);
    let guesser = [127, 0, 0, 2];
    let through = strangers(guesser, follower.address, None, 400).await;
    assert!(through.iter().filter(|status| **status == 401).count() >= 200 && through.contains(&429), "{through:?}");
    // Not the follower, nor anybody else who asks it.
    assert_eq!(strangers([127, 0, 0, 3], follower.address, None, 20).await, [401_u16; 20]);
    assert_eq!(strangers([127, 0, 0, 1], leader.address, None, 20).await, [401_u16; 20]);
    // The guesser at either, also one who says that he is somebody else.
    let address = "0".repeat(90);
    for forwarded in [None, Some("1"), Some("127.0.0.9"), Some(address.as_str())] {
        assert!(strangers(guesser, leader.address, forwarded, 50).await.contains(&429), "{forwarded:?}");
    }
}
