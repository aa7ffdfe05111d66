//! A socket that writes when it is flushed: the HTTP/2 library hands over heads and payloads of frames one by one, and
//! each of them would be a system call. What the bytes mean is not known here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered at most; more goes out before it is flushed.
const GATHERED_MAX: usize = 64 * 1024;

/// The socket and what has been written to it since it was flushed last.
pub(super) struct Gathered<S> {
    stream: S,
    out: BytesMut,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(super) fn new(stream: S) -> Gathered<S> {
        Gathered { stream, out: BytesMut::new() }
    }

    /// Writes until nothing is left.
    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // An idle connection holds no memory for what it once had to say.
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.out.len() + buf.len() > GATHERED_MAX {
            ready!(self.send(context))?;
        }
        if self.out.is_empty() && buf.len() > GATHERED_MAX / 4 {
            return Pin::new(&mut self.stream).poll_write(context, buf);
        }
        self.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_and_only_when_it_is_flushed() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut near = Gathered::new(near);
        near.write_all(b"ab").await.unwrap();
        near.write_all(b"c").await.unwrap();
        let mut seen = [0; 3];
        assert!(tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut seen)).await.is_err());
        near.flush().await.unwrap();
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"abc");
        let pieces: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let sent = pieces.clone();
        let writing = tokio::spawn(async move {
            for piece in sent.chunks(7000).chain([&[1u8; 40_000][..], b"end"]) {
                near.write_all(piece).await.unwrap();
            }
            near.shutdown().await.unwrap();
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap();
        assert_eq!(all.len(), 340_003);
        assert_eq!(all[..300_000], pieces);
        assert!(all.ends_with(b"end"));
    }
}
