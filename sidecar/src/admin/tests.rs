//! Facts about the admin server on a real socket.
