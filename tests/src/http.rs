use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

/// One HTTP/1.1 request, as `curl` would make it; status and JSON body.
pub fn http(address: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("receive");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    // Error pages are JSON too; a body in chunks would not parse, and small answers are not chunked.
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}
