//! HTTP/2 frames as bytes (RFC 9113, section 4), for clients that behave as no library lets them.

/// What a connection begins with, and the client's settings: none.
pub fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    bytes
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame's head, in bytes.
pub const HEAD_BYTES: usize = 9;

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The kind of a frame and the length of its payload, by its head.
pub fn head(bytes: &[u8; HEAD_BYTES]) -> (u8, usize) {
    (bytes[3], u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize)
}

/// A request's header block (RFC 7541): names by their place in the static table, values as they are.
pub fn request(is_post: bool, path: &str) -> Vec<u8> {
    const SCHEME_HTTP: u8 = 0x86;
    let mut block = vec![if is_post { 0x83 } else { 0x82 }, SCHEME_HTTP];
    literal(&mut block, 4, path);
    literal(&mut block, 1, "localhost");
    if is_post {
        // content-type is the 31st, beyond the 15 that fit the first byte.
        block.extend_from_slice(&[0x0f, 31 - 15]);
        text(&mut block, "application/json");
    }
    block
}

/// A field that nothing has to keep.
pub fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    text(out, name);
    text(out, value);
}

fn literal(out: &mut Vec<u8>, name: u8, value: &str) {
    out.push(name);
    text(out, value);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
    out.extend_from_slice(text.as_bytes());
}
