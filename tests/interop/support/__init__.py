"""What the tests start and talk to: a real mongod, real FastAPI applications, and the gateway itself."""
