BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE aliases (
	node VARCHAR(64) NOT NULL, 
	alias VARCHAR(150) NOT NULL, 
	registration_id INTEGER NOT NULL, 
	PRIMARY KEY (node, alias), 
	FOREIGN KEY(registration_id) REFERENCES registrations (id) ON DELETE CASCADE
);
INSERT INTO "aliases" VALUES('pbx1','1.2',1);
INSERT INTO "aliases" VALUES('pbx1','1.1',1);
INSERT INTO "aliases" VALUES('pbx1','2.1',2);
CREATE TABLE grants (
	client_id VARCHAR(64) NOT NULL, 
	access_token TEXT NOT NULL, 
	refresh_token TEXT NOT NULL, 
	expires_at DOUBLE NOT NULL, 
	previous TEXT NOT NULL, 
	PRIMARY KEY (client_id)
);
INSERT INTO "grants" VALUES('client','access','refresh',1000000000.0,'');
CREATE TABLE horizon (
	node VARCHAR(64) NOT NULL, 
	forgotten_before DOUBLE NOT NULL, 
	PRIMARY KEY (node)
);
CREATE TABLE membership (
	node VARCHAR(64) NOT NULL, 
	homes JSON NOT NULL, 
	tick BIGINT NOT NULL, 
	epoch VARCHAR(36) NOT NULL, 
	PRIMARY KEY (node)
);
INSERT INTO "membership" VALUES('pbx1','[1, 2, 3]',17,'6d1f0c0e-5d0b-4f6e-9a3b-0b1f0a6f2c11');
CREATE TABLE phonebook (
	phone VARCHAR(32) NOT NULL, 
	listing JSON NOT NULL, 
	used_at DOUBLE NOT NULL, 
	PRIMARY KEY (phone)
);
CREATE TABLE recordings (
	id VARCHAR(200) NOT NULL, 
	sources JSON NOT NULL, 
	file_name TEXT NOT NULL, 
	called_at DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE registrations (
	id INTEGER NOT NULL, 
	node VARCHAR(64) NOT NULL, 
	call_id VARCHAR(150) NOT NULL, 
	client VARCHAR(150) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	due_at DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	call JSON NOT NULL, 
	progress JSON NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (node, call_id)
);
INSERT INTO "registrations" VALUES(1,'pbx1','1.1','+7999','done',1795365737.63175,0,1795365737.63175,'{"id": "1.1"}','{"steps": ["wanted"]}','');
INSERT INTO "registrations" VALUES(2,'pbx1','2.1','+7999','waiting',1.79536573764060759543e+09,0,1.79536573764060759543e+09,'{"id": "2.1"}','{}','');
CREATE TABLE remembered (
	node VARCHAR(64) NOT NULL, 
	call_id VARCHAR(150) NOT NULL, 
	version INTEGER NOT NULL, 
	saved_at DOUBLE NOT NULL, 
	"row" JSON NOT NULL, 
	PRIMARY KEY (node, call_id)
);
INSERT INTO "remembered" VALUES('pbx1','1.1',3,1.79537832468274164204e+09,'{"node": "pbx1", "call_id": "1.1", "client": "+7999", "state": "done", "due_at": 1795365737.5, "attempts": 0, "created_at": 1795365737.5, "call": {"id": "1.1"}, "progress": {"steps": ["wanted"]}, "reason": "", "version": 3}');
CREATE INDEX registrations_in_line ON registrations (node, state, id);
CREATE INDEX registrations_in_client_line ON registrations (node, client, state, id);
CREATE INDEX registrations_due ON registrations (node, state, due_at);
CREATE INDEX registrations_of_client ON registrations (node, client, id);
CREATE INDEX ix_aliases_registration_id ON aliases (registration_id);
CREATE INDEX ix_phonebook_used_at ON phonebook (used_at);
CREATE INDEX ix_remembered_saved_at ON remembered (saved_at);
COMMIT;
