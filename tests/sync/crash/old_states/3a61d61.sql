-- A state that commit 3a61d61 wrote: four runs, and a fifth that was killed. One of its chunks has a token.
CREATE TABLE aiobatch_state("version" INTEGER NOT NULL, state_id VARCHAR NOT NULL);
INSERT INTO aiobatch_state VALUES
    (1, '9ebd7db00ee34acdb48c4323664dd300');
CREATE TABLE audiences("key" VARCHAR NOT NULL, "scope" VARCHAR NOT NULL, "name" VARCHAR NOT NULL, generation BIGINT NOT NULL, known BOOLEAN NOT NULL, contract VARCHAR);
INSERT INTO audiences VALUES
    ('7b4ba68abe4f95eb', '999421e9c10f452a', 'vip', 3, true, 'custom_ids trim=yes max_length=1024'),
    ('9009c4811966f85d', '999421e9c10f452a', 'other', 1, true, 'custom_ids trim=yes max_length=1024');
CREATE TABLE changes_5(seq BIGINT NOT NULL, "action" UTINYINT NOT NULL, id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL, attributes VARCHAR, tags VARCHAR[]);
INSERT INTO changes_5 VALUES
    (0, 1, 'u20', 0, NULL, NULL),
    (1, 1, 'u21', 0, NULL, NULL),
    (2, 1, 'u22', 0, NULL, NULL),
    (3, 1, 'u23', 0, NULL, NULL),
    (4, 1, 'u24', 0, NULL, NULL),
    (5, 1, 'u25', 0, NULL, NULL),
    (6, 1, 'u26', 0, NULL, NULL),
    (7, 1, 'u27', 0, NULL, NULL),
    (8, 1, 'u28', 0, NULL, NULL),
    (9, 1, 'u29', 0, NULL, NULL),
    (10, 1, 'u30', 0, NULL, NULL),
    (11, 1, 'u31', 0, NULL, NULL),
    (12, 1, 'u32', 0, NULL, NULL),
    (13, 1, 'u33', 0, NULL, NULL),
    (14, 1, 'u34', 0, NULL, NULL),
    (15, 1, 'u35', 0, NULL, NULL),
    (16, 1, 'u36', 0, NULL, NULL),
    (17, 1, 'u37', 0, NULL, NULL),
    (18, 1, 'u38', 0, NULL, NULL),
    (19, 1, 'u39', 0, NULL, NULL),
    (20, 1, 'u40', 0, NULL, NULL),
    (21, 1, 'u41', 0, NULL, NULL),
    (22, 1, 'u42', 0, NULL, NULL),
    (23, 1, 'u43', 0, NULL, NULL),
    (24, 1, 'u44', 0, NULL, NULL),
    (25, 1, 'u45', 0, NULL, NULL),
    (26, 1, 'u46', 0, NULL, NULL),
    (27, 1, 'u47', 0, NULL, NULL),
    (28, 1, 'u48', 0, NULL, NULL),
    (29, 1, 'u49', 0, NULL, NULL);
CREATE TABLE chunks(run BIGINT NOT NULL, n INTEGER NOT NULL, "first" BIGINT NOT NULL, past BIGINT NOT NULL);
INSERT INTO chunks VALUES
    (5, 0, 0, 10),
    (5, 1, 10, 20),
    (5, 2, 20, 30);
CREATE TABLE last_seen("key" VARCHAR NOT NULL, made TIMESTAMP, changed TIMESTAMP);
INSERT INTO last_seen VALUES
    ('9009c4811966f85d', '2026-11-29 00:48:45', '2026-11-29 00:48:46'),
    ('7b4ba68abe4f95eb', '2026-11-29 00:48:42', NULL);
CREATE TABLE marks(run BIGINT NOT NULL, seq BIGINT NOT NULL, n INTEGER NOT NULL, state VARCHAR NOT NULL, token VARCHAR, reason VARCHAR, marked TIMESTAMP NOT NULL);
INSERT INTO marks VALUES
    (5, 0, 0, 'sending', NULL, NULL, '2026-11-29 00:48:51.560915'),
    (5, 1, 1, 'sending', NULL, NULL, '2026-11-29 00:48:51.560915'),
    (5, 2, 2, 'sending', NULL, NULL, '2026-11-29 00:48:51.560915'),
    (5, 3, 0, 'sent', 'vip:update:8e843ebbbeb664c5e21241cd3e0c0fb9', NULL, '2026-11-29 00:48:51.589818'),
    (5, 4, 1, 'sent', 'vip:update:f7b9477b43728c3efd1f06f859e6f4f9', NULL, '2026-11-29 00:48:51.831183'),
    (5, 5, 2, 'sent', 'vip:update:9e3e350e89d1c95b66ffe331a6dfc652', NULL, '2026-11-29 00:48:52.083245'),
    (5, 6, 0, 'applied', NULL, NULL, '2026-11-29 00:48:52.338808'),
    (5, 7, 1, 'applied', NULL, NULL, '2026-11-29 00:48:52.598102');
CREATE TABLE members_7b4ba68abe4f95eb(id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL);
INSERT INTO members_7b4ba68abe4f95eb VALUES
    ('u5', 0),
    ('u6', 0),
    ('u7', 0),
    ('u8', 0),
    ('u9', 0),
    ('u10', 0),
    ('u11', 0),
    ('u12', 0),
    ('u13', 0),
    ('u14', 0),
    ('u15', 0),
    ('u16', 0),
    ('u17', 0),
    ('u18', 0),
    ('u19', 0);
CREATE TABLE members_9009c4811966f85d(id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL);
INSERT INTO members_9009c4811966f85d VALUES
    ('a', 14932081884895338274),
    ('b', 10561729017883013482);
CREATE TABLE past_1(id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL);
CREATE TABLE past_2(id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL);
INSERT INTO past_2 VALUES
    ('u10', true, true),
    ('u11', true, true),
    ('u12', true, true),
    ('u13', true, true),
    ('u14', true, true),
    ('u15', true, true),
    ('u16', true, true),
    ('u17', true, true),
    ('u18', true, true),
    ('u19', true, true);
CREATE TABLE past_3(id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL);
CREATE TABLE past_4(id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL);
INSERT INTO past_4 VALUES
    ('u0', false, true),
    ('u1', false, true),
    ('u2', false, true),
    ('u3', false, true),
    ('u4', false, true);
CREATE TABLE runs(run BIGINT NOT NULL, "key" VARCHAR NOT NULL, audience VARCHAR NOT NULL, who VARCHAR NOT NULL, "source" VARCHAR NOT NULL, "mode" VARCHAR NOT NULL, started TIMESTAMP NOT NULL, ended TIMESTAMP, staged BIGINT NOT NULL, adds BIGINT NOT NULL, removes BIGINT NOT NULL, attribute_changes BIGINT NOT NULL, resends BIGINT NOT NULL, strays BIGINT NOT NULL, members_before BIGINT NOT NULL, members_after BIGINT, planned_calls BIGINT NOT NULL, chunk_size INTEGER NOT NULL, calls BIGINT, retries BIGINT, applied BIGINT, refused BIGINT, outcome VARCHAR, "error" VARCHAR, settled BOOLEAN NOT NULL, kept BOOLEAN NOT NULL);
INSERT INTO runs VALUES
    (1, '7b4ba68abe4f95eb', 'vip', 'etl@example', '<ids>', 'mirror', '2026-11-29 00:48:42.658378', '2026-11-29 00:48:43.468753', 10, 10, 0, 0, 0, 0, 0, 10, 1, 10, 1, 0, 10, 0, 'done', NULL, true, true),
    (2, '7b4ba68abe4f95eb', 'vip', 'etl@example', '<ids>', 'mirror', '2026-11-29 00:48:43.977748', '2026-11-29 00:48:44.434285', 20, 10, 0, 0, 0, 0, 10, 20, 1, 10, 1, 0, 10, 0, 'done', NULL, true, true),
    (3, '9009c4811966f85d', 'other', 'etl@example', '<ids>', 'mirror', '2026-11-29 00:48:45.627468', '2026-11-29 00:48:46.783575', 2, 2, 0, 0, 0, 0, 0, 2, 1, 10, 1, 0, 2, 0, 'done', NULL, true, true),
    (4, '7b4ba68abe4f95eb', 'vip', 'etl@example', '<ids>', 'mirror', '2026-11-29 00:48:47.175622', '2026-11-29 00:48:47.674032', 15, 0, 5, 0, 0, 0, 20, 15, 1, 10, 1, 0, 5, 0, 'done', NULL, true, true),
    (5, '7b4ba68abe4f95eb', 'vip', 'etl@example', '<ids>', 'mirror', '2026-11-29 00:48:51.502131', NULL, 45, 30, 0, 0, 0, 0, 15, NULL, 3, 10, NULL, NULL, NULL, NULL, NULL, NULL, false, false);
CREATE TABLE targets("scope" VARCHAR NOT NULL, "name" VARCHAR NOT NULL);
INSERT INTO targets VALUES
    ('999421e9c10f452a', 'project 999421e9');
CREATE SEQUENCE run_numbers START 6;
