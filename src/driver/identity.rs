//! JSON Web Tokens: who calls the API and who may enter a room.
