"""Where programs run: the embedded engine, servers, APIs, recordings and mocks behind one interface."""
