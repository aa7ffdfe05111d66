//! gRPC messages that keep their bytes: requests are decoded and kept, responses may come encoded.
//! Nothing is interpreted here.

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::Raw;
use crate::member::Encoded;

/// Decodes `Req` and keeps its bytes, writes encoded `Resp`.
pub(super) struct RawCodec<Req, Resp>(PhantomData<fn() -> (Req, Resp)>);

impl<Req, Resp> Default for RawCodec<Req, Resp> {
    fn default() -> Self {
        RawCodec(PhantomData)
    }
}

impl<Req, Resp> Codec for RawCodec<Req, Resp>
where
    Req: Message + Default + 'static,
    Resp: Message + Default + 'static,
{
    type Encode = Encoded<Resp>;
    type Decode = Raw<Req>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

/// Bytes that an idle stream holds in either direction: they grow with its messages. A member may have many streams of
/// which most are silent, and the library's own size is eight times that.
const STREAM_BUFFER: usize = 1024;
/// Bytes of messages that are gathered before they go to the connection, as the library has it.
const GATHERED: usize = 32 * 1024;

impl<Req, Resp: Message + Default> Encoder for RawCodec<Req, Resp> {
    type Item = Encoded<Resp>;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(STREAM_BUFFER, GATHERED)
    }

    fn encode(&mut self, item: Encoded<Resp>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item.into_bytes());
        Ok(())
    }
}

impl<Req: Message + Default, Resp> Decoder for RawCodec<Req, Resp> {
    type Item = Raw<Req>;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(STREAM_BUFFER, GATHERED)
    }

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Raw<Req>>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        let message = Req::decode(bytes.clone())
            .map_err(|e| Status::internal(format!("grpc: error unmarshalling request: {e}")))?;
        Ok(Some(Raw { message, bytes }))
    }
}
