//! Taking in a body: to memory, to a data file, or nowhere, with checksums as it passes.

use std::io;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::blob::{Blob, DataFile, Piece};
use super::digest::{Digests, crc_from_header, hex, md5_from_header};
use super::error::{Error, Result};
use super::model::Model;

/// What a client claims of a body.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub md5: Option<[u8; 16]>,
    pub crc64: Option<u64>,
    pub length: Option<u64>,
}

impl Claims {
    pub fn new(md5: Option<&str>, crc64: Option<&str>, length: Option<i64>) -> Result<Claims> {
        Ok(Claims {
            md5: md5.map(md5_from_header).transpose()?,
            crc64: crc64.map(crc_from_header).transpose()?,
            length: length.and_then(|length| u64::try_from(length).ok()),
        })
    }
}

/// A body that was taken in whole and is what its sender claimed.
#[derive(Debug)]
pub(super) struct Received {
    pub blob: Blob,
    pub etag: String,
    pub crc64: Option<u64>,
    digests: Option<([u8; 16], u64)>,
}

impl Received {
    /// Checks a checksum that came behind the body.
    pub fn verify_trailer(&self, crc64: Option<&str>) -> Result<()> {
        match (crc64.map(crc_from_header).transpose()?, self.digests) {
            (Some(claimed), Some((_, computed))) if claimed != computed => {
                Err(Error::bad_digest("CRC64NVME"))
            }
            _ => Ok(()),
        }
    }
}

enum Sink {
    Null(u64),
    Memory(Blob),
    File {
        file: Arc<DataFile>,
        open: tokio::fs::File,
        len: u64,
    },
}

/// Reads the body to its end. In null mode claims of checksums are believed.
pub(super) async fn receive<S, E>(
    model: &Model,
    body: Option<S>,
    claims: &Claims,
) -> Result<Received>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut sink = match &model.disk {
        _ if model.null => Sink::Null(0),
        None => Sink::Memory(Blob::default()),
        Some(disk) => {
            let file = disk.new_data();
            let open = tokio::fs::File::create(&file.path).await?;
            Sink::File { file, open, len: 0 }
        }
    };
    let mut digests = (!model.null).then(Digests::new);
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Error::new("IncompleteBody", error.to_string()))?;
            if let Some(digests) = &mut digests {
                digests.update(&chunk);
            }
            match &mut sink {
                Sink::Null(len) => *len += chunk.len() as u64,
                Sink::Memory(blob) => blob.push(Piece::Bytes(chunk)),
                Sink::File { open, len, .. } => {
                    open.write_all(&chunk).await?;
                    *len += chunk.len() as u64;
                }
            }
        }
    }
    let mut blob = Blob::default();
    match sink {
        Sink::Null(len) => blob.push(Piece::Zeros(len)),
        Sink::Memory(held) => blob = held,
        Sink::File {
            file,
            mut open,
            len,
        } => {
            open.flush().await?;
            blob.push(Piece::File {
                file,
                offset: 0,
                len,
            });
        }
    }
    finish(model, blob, digests, claims)
}

/// Takes in bytes that are here already; writes files on the calling thread.
pub(super) fn receive_bytes(model: &Model, bytes: Bytes) -> Result<Received> {
    let mut digests = (!model.null).then(Digests::new);
    if let Some(digests) = &mut digests {
        digests.update(&bytes);
    }
    let mut blob = Blob::default();
    match &model.disk {
        _ if model.null => blob.push(Piece::Zeros(bytes.len() as u64)),
        None => blob.push(Piece::Bytes(bytes)),
        Some(disk) => {
            let file = disk.new_data();
            std::fs::File::create(&file.path).and_then(|mut open| open.write_all(&bytes))?;
            blob.push(Piece::File {
                file,
                offset: 0,
                len: bytes.len() as u64,
            });
        }
    }
    finish(model, blob, digests, &Claims::default())
}

/// The checksums of bytes that are in the store already, as a copy needs them.
pub(super) async fn received_copy(model: &Model, blob: Blob) -> Result<Received> {
    if model.null {
        return finish(model, blob, None, &Claims::default());
    }
    let mut digests = Digests::new();
    let mut stream = blob.clone().stream();
    while let Some(chunk) = stream.next().await {
        digests.update(&chunk.map_err(|error: io::Error| Error::from(error))?);
    }
    finish(model, blob, Some(digests), &Claims::default())
}

fn finish(
    model: &Model,
    blob: Blob,
    digests: Option<Digests>,
    claims: &Claims,
) -> Result<Received> {
    if claims.length.is_some_and(|length| length != blob.len()) {
        return Err(Error::new(
            "IncompleteBody",
            "You did not provide the number of bytes specified by the Content-Length HTTP header",
        ));
    }
    let Some(digests) = digests else {
        return Ok(Received {
            blob,
            etag: model.unique_etag(),
            crc64: claims.crc64,
            digests: None,
        });
    };
    let (md5, crc64) = digests.finish();
    if claims.md5.is_some_and(|claimed| claimed != md5) {
        return Err(Error::bad_digest("Content-MD5"));
    }
    if claims.crc64.is_some_and(|claimed| claimed != crc64) {
        return Err(Error::bad_digest("CRC64NVME"));
    }
    Ok(Received {
        blob,
        etag: hex(&md5),
        crc64: Some(crc64),
        digests: Some((md5, crc64)),
    })
}
