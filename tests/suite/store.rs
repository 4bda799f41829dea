//! Every row on SQLite, and on PostgreSQL when JAMCAST_TEST_POSTGRES names one.
