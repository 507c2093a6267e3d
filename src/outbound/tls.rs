//! TLS towards others.

/// Names the cryptography that every TLS client of this process uses; to be called before one is built. Again does nothing.
pub fn install() {
    // An error says that one is installed already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
}
