//! Just enough of HTTP/2 to say wrong things with it (RFC 9113, RFC 7541).

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Largest payload that a server must take.
const FRAME_BYTES_MAX: usize = 16_384;

/// A frame that says that it is as long as it is.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(payload.len() as u32, kind, flags, stream);
    frame.extend_from_slice(payload);
    frame
}

/// The head of a frame that claims this length.
pub(super) fn frame_head(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut head = length.to_be_bytes()[1..].to_vec();
    head.extend_from_slice(&[kind, flags]);
    head.extend_from_slice(&stream.to_be_bytes());
    head
}

/// Preface and empty settings.
pub(super) fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The head of a gRPC call; more headers follow without `END_HEADERS`.
pub(super) fn call_head(stream: u32, path: &str, ends: bool) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-mq-client-id", "poison"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend_from_slice(&field(name, value));
    }
    frame(HEADERS, if ends { END_HEADERS } else { 0 }, stream, &block)
}

/// A header field, as a literal that is not remembered.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &integer(name.len())[..], name.as_bytes(), &integer(value.len()), value.as_bytes()]
        .concat()
}

/// An integer with a prefix of seven bits.
fn integer(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// The message of a call, behind a gRPC prefix that claims `length`.
pub(super) fn message(stream: u32, length: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
    let pieces: Vec<&[u8]> = body.chunks(FRAME_BYTES_MAX).collect();
    let mut frames = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let flags = if number + 1 == pieces.len() { END_STREAM } else { 0 };
        frames.extend_from_slice(&frame(DATA, flags, stream, piece));
    }
    frames
}

/// A whole call on a connection of its own, well-formed up to its message.
pub(super) fn call(path: &str, body: &[u8]) -> Vec<u8> {
    [opening(), call_head(1, path, true), message(1, body.len() as u32, body)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_standard() {
        assert_eq!(integer(10), [10]);
        assert_eq!(integer(127), [127, 0]);
        assert_eq!(integer(1337), [127, 186, 9]);
    }

    #[test]
    fn a_frame_has_a_head_of_nine_bytes() {
        assert_eq!(frame(PING, 0, 0, &[7; 8]), [0, 0, 8, 6, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn a_long_message_takes_several_frames_and_ends_once() {
        let frames = message(1, 40_000, &[0; 40_000]);
        assert_eq!(frames.len(), 5 + 40_000 + 3 * 9);
        assert_eq!(frames[4], 0);
        assert_eq!(frames[2 * (9 + FRAME_BYTES_MAX) + 4], END_STREAM);
    }
}
