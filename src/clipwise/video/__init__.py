"""Opening video: exact random access to frames of files, folders and arrays; streams; writing."""
