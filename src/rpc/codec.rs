//! How messages are read and written: protobuf, with small buffers, and malformed messages as the sender's fault.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The first buffer of a message, in bytes. tonic's own default is 8 KiB, of which a hop takes four; a buffer grows if a
/// message needs it.
const BUFFER_BYTES: usize = 512;
/// How much of a stream is gathered before it is sent. Answers are single messages, which this does not split.
const YIELD_BYTES: usize = 32 << 10;

/// Reads `U` and writes `T`.
///
/// tonic's own codec calls a message that can't be read INTERNAL, which blames the wrong side: such a message is
/// answered INVALID_ARGUMENT.
#[derive(Clone, Debug)]
pub struct WireCodec<T, U>(PhantomData<(T, U)>);

/// The half of a [`WireCodec`] that writes.
#[derive(Clone, Debug)]
pub struct WireEncoder<T>(PhantomData<T>);

/// The half of a [`WireCodec`] that reads.
#[derive(Clone, Debug)]
pub struct WireDecoder<U>(PhantomData<U>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WireEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> WireEncoder<T> {
        WireEncoder(PhantomData)
    }

    fn decoder(&mut self) -> WireDecoder<U> {
        WireDecoder(PhantomData)
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

impl<T: Message> Encoder for WireEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(into)
            .map_err(|error| Status::internal(format!("the message can't be written: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let read = U::decode(from).map(Some);
        read.map_err(|error| Status::invalid_argument(format!("the message is malformed: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
