//! WebSockets through the whole platform, with another implementation as the client.

use std::net::TcpStream;
use std::time::Duration;

use e2e::platform::{Platform, STOP_TIMEOUT};
use rustix::process::Signal;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

const ECHO: &str = "export default { fetch(request) {
  if (request.headers.get('upgrade') !== 'websocket') return new Response('plain');
  const [client, server] = Object.values(new WebSocketPair());
  server.accept();
  server.addEventListener('message', ({ data }) => server.send(data));
  return new Response(null, { status: 101, webSocket: client });
} };";

fn open(platform: &Platform, host: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(platform.http).expect("the node accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let request = format!("ws://{host}/").into_client_request().expect("a request");
    tungstenite::client(request, stream).expect("switched").0
}

#[test]
fn a_deployed_worker_echoes_until_the_node_stops() {
    let mut platform = Platform::start();
    let echo = platform.deploy("echo", ECHO);
    let mut sockets: Vec<_> = (0..50).map(|_| open(&platform, &echo.host)).collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        let text = format!("message {number}");
        socket.send(Message::text(text.clone())).expect("sent");
        assert_eq!(socket.read().expect("an echo").into_text().expect("text").as_str(), text);
        socket.send(Message::binary(vec![number as u8; 100_000])).expect("sent");
        assert!(socket.read().expect("an echo").into_data() == vec![number as u8; 100_000]);
    }
    let plain = platform.get(&echo.host, "/");
    assert_eq!((plain.status, plain.text().as_str()), (200, "plain"));
    assert_eq!(platform.metric("selvage_websockets", &[]), 50);
    platform.node.signal(Signal::TERM);
    for socket in &mut sockets {
        let Ok(Message::Close(Some(close))) = socket.read() else { panic!("a close frame is expected") };
        assert_eq!(u16::from(close.code), 1001);
        while socket.read().is_ok() {}
    }
    assert!(platform.node.wait(STOP_TIMEOUT).success());
}
