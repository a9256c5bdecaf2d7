// Click-to-call: a click on a phone number has the connector ring the user's phone and then the client's, and a card in
// the corner shows how it goes. `itgrix-kommo widget build` puts the connector's address and the style sheet in.
define([], () => {
  "use strict";

  const ADDRESS = "@ADDRESS@";
  const STYLE = "@STYLE@";

  const STATES = ["queued", "employee_ringing", "employee_answered", "client_ringing", "talking", "ended"];
  const HELD_S = 25; // the connector answers when there is news, or after so long; some proxies give up after 30 s
  const PATIENCE_MS = 20000; // for an answer, beyond what the connector holds it back
  const LEAST_PAUSE_MS = 1000;
  const LONGEST_PAUSE_MS = 30000;
  const MOST_MISSES = 8; // questions without an answer, some two minutes, before a call is out of sight
  const IN_VAIN = [400, 403, 404, "address"]; // to try these again changes nothing
  const LINGER_MS = 8000; // how long a call that came about is shown after its end

  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

  const digitsOf = (phone) => phone.replace(/\D/g, "");

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

  // Where the connector is: what the account's administrator typed goes before what was built in. Null where the
  // browser would not let us ask there: Kommo's pages are https.
  const addressOf = (widget) => {
    const typed = String((widget.get_settings() || {}).server_url || "").trim();
    try {
      const url = new URL(typed || ADDRESS);
      const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
      const isSafe = url.protocol === "https:" || (url.protocol === "http:" && isLocal);
      return isSafe ? (url.origin + url.pathname).replace(/\/+$/, "") : null;
    } catch {
      return null;
    }
  };

  const problemOf = (body) => {
    try {
      return String((typeof body === "string" ? JSON.parse(body) : body).detail || "");
    } catch {
      return "";
    }
  };

  // Asks the connector in the user's name: Kommo gives each question a signed token of its own. Never fails; status 0
  // is no answer.
  const ask = (widget, options) => new Promise((resolve) => {
    widget.$authorizedAjax({ dataType: "json", type: options.method, ...options })
      .done((body) => resolve({ status: 200, body: body || {} }))
      .fail((xhr) => resolve({
        status: xhr && xhr.status >= 400 ? xhr.status : 0, // a 200 that is no JSON is not from the connector
        detail: problemOf(xhr && (xhr.responseJSON || xhr.responseText)),
        wait: Number(xhr && xhr.getResponseHeader && xhr.getResponseHeader("Retry-After")) || 60,
      }));
  }).catch(() => ({ status: 0, detail: "", wait: 60 }));

  const element = (tag, name, text = "") => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };

  const handset = () => {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    svg.setAttribute("viewBox", "1.5 1.5 21 21");
    path.setAttribute("d", "M6.6 10.8a15 15 0 0 0 6.6 6.6l2.2-2.2a1 1 0 0 1 1-.25 11.4 11.4 0 0 0 3.6.57 1 1 0 0 1 1 1V20"
      + "a1 1 0 0 1-1 1A17 17 0 0 1 3 4a1 1 0 0 1 1-1h3.5a1 1 0 0 1 1 1c0 1.25.2 2.45.57 3.57a1 1 0 0 1-.25 1z");
    svg.append(path);
    return svg;
  };

  // The one place on the page where all cards stand, also those of a second copy of this script. Its shadow keeps our
  // style and Kommo's apart.
  const place = () => {
    let host = document.querySelector("body > .itgrix-calls");
    if (!host) {
      host = element("div", "itgrix-calls");
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      host.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
      document.body.append(host);
    }
    host.classList.toggle("is-dark", document.documentElement.dataset.colorScheme === "dark");
    return host.shadowRoot;
  };

  const leave = (card) => {
    const home = card.getRootNode();
    card.remove();
    if (home.host && !home.querySelector(".card")) home.host.remove();
  };

  const isGoingOn = (phone) => [...place().querySelectorAll(".card:not(.is-over)")]
    .some((card) => card.dataset.digits === digitsOf(phone));

  class Call {
    constructor(widget, phone, again) {
      this.widget = widget;
      this.phone = phone;
      this.again = again;
      this.id = "";
      this.state = "queued"; // one of STATES, or failed (it never began) or lost (it may go on, we can't see it)
      this.error = null;
      this.outcome = "";
      this.duration = 0;
      this.talkingSince = 0;
      this.isFollowed = false;
      this.isClosed = false;
      this.card = null;
      this.timer = 0;
    }

    get isOver() {
      return ["ended", "failed", "lost"].includes(this.state);
    }

    async start() {
      this.show();
      const address = addressOf(this.widget);
      const order = {
        url: `${address}/originate`,
        method: "POST",
        contentType: "application/json",
        data: JSON.stringify({ phone: this.phone }),
        timeout: PATIENCE_MS,
      };
      let answer = address ? await ask(this.widget, order) : { status: "address", detail: "" };
      // Nothing was dialled then, and Kommo's next token may be one that the connector takes.
      if (answer.status === 401) answer = await ask(this.widget, order);
      this.id = answer.status === 200 ? String(answer.body.originate_id || "") : "";
      if (!this.id) {
        this.state = "failed";
        this.error = answer;
      }
      this.draw();
      if (this.card) await this.follow();
    }

    // One question at a time, however often the card goes and comes.
    async follow() {
      if (this.isFollowed) return;
      this.isFollowed = true;
      let misses = 0;
      while (this.id && this.card && !this.isOver) {
        const asked = Date.now();
        const before = this.state;
        const answer = await ask(this.widget, {
          url: `${addressOf(this.widget)}/originate/${encodeURIComponent(this.id)}?after=${before}&wait=${HELD_S}`,
          method: "GET",
          timeout: HELD_S * 1000 + PATIENCE_MS,
        });
        if (answer.status === 200 && STATES.includes(answer.body.state)) {
          misses = 0;
          this.hear(answer.body);
        } else {
          misses += 1;
          if (answer.status === 404 || misses > MOST_MISSES) this.state = "lost";
        }
        this.draw();
        if (this.state === before) {
          const least = Math.min(LEAST_PAUSE_MS * 2 ** Math.max(0, misses - 1), LONGEST_PAUSE_MS);
          await pause(Math.max(0, asked + least - Date.now()));
        }
      }
      this.isFollowed = false;
    }

    hear(progress) {
      if (progress.state === "talking" && this.state !== "talking") this.talkingSince = Date.now();
      this.state = progress.state;
      this.outcome = String(progress.outcome || "");
      this.duration = Math.max(0, Math.round(Number(progress.duration) || 0));
    }

    show() {
      this.card = element("section", "card");
      this.card.dataset.digits = digitsOf(this.phone);
      const text = this.widget.i18n("call") || {};
      const icon = element("div", "icon");
      icon.append(handset());
      const number = element("bdi", "number", this.phone);
      const close = element("button", "close", "×");
      close.setAttribute("aria-label", text.close);
      close.addEventListener("click", () => this.close());
      this.line = element("div", "line");
      this.line.setAttribute("role", "status");
      this.time = element("time", "time");
      this.steps = element("ol", "steps");
      this.steps.append(...["you", "client", "talk"].map((step) => element("li", step, text[step])));
      this.note = element("div", "note");
      this.button = element("button", "again", text.again);
      this.button.addEventListener("click", () => { this.close(); this.again(this.phone); });
      for (const button of [close, this.button]) button.type = "button";
      this.card.append(icon, number, close, this.line, this.time, this.steps, this.note, this.button);
      place().append(this.card);
      this.draw();
    }

    draw() {
      if (!this.card) return;
      const text = this.widget.i18n("call") || {};
      const isGood = this.outcome === "talked" || this.outcome === "left a message";
      this.card.dataset.state = this.state;
      this.card.classList.toggle("is-over", this.isOver);
      this.card.classList.toggle("is-good", this.state === "ended" && isGood);
      this.card.classList.toggle("is-bad", this.state === "failed");
      this.line.textContent = this.sentence(text);
      this.steps.hidden = this.isOver;
      this.button.hidden = !this.isOver || isGood || this.state === "lost" || IN_VAIN.includes(this.error?.status);
      this.note.textContent = this.remark(text);
      this.note.hidden = !this.note.textContent;
      clearInterval(this.timer);
      this.time.textContent = "";
      if (this.state === "talking") {
        const tick = () => { this.time.textContent = clock(Math.floor((Date.now() - this.talkingSince) / 1000)); };
        this.timer = setInterval(tick, 1000);
        tick();
      } else if (this.state === "ended" && isGood) {
        this.time.textContent = clock(this.duration);
        this.timer = setInterval(() => { if (!this.card.matches(":hover, :focus-within")) this.close(); }, LINGER_MS);
      }
    }

    sentence(text) {
      if (this.state === "failed") {
        const errors = this.widget.i18n("errors") || {};
        const { status, wait } = this.error;
        return String(errors[status] || errors.other || status).replace("{seconds}", wait);
      }
      if (this.state !== "ended") return text[this.state] || this.state;
      const [whose, outcome] = this.outcome.startsWith("employee: ")
        ? ["employee", this.outcome.slice("employee: ".length)]
        : ["client", this.outcome];
      return (this.widget.i18n(`${whose}_outcomes`) || {})[outcome.replaceAll(" ", "_")] || text.ended;
    }

    remark(text) {
      const { status, detail } = this.error || {};
      if (!detail || status === 400 || status === 429) return "";
      return `${text.for_administrator} ${detail}`;
    }

    // The page is another now, or the widget is switched off: nothing of it stays, and nothing more is asked.
    suspend() {
      clearInterval(this.timer);
      if (this.card) leave(this.card);
      this.card = null;
    }

    resume() {
      if (this.isClosed) return;
      if (!this.card) this.show();
      else if (!this.card.isConnected) place().append(this.card); // Kommo has rebuilt its page without it
      this.follow();
    }

    close() {
      this.isClosed = true;
      this.suspend();
    }
  }

  return function CustomWidget() {
    const self = this;
    let calls = [];

    const call = (phone) => {
      const mine = calls.find((one) => !one.isOver && !one.isClosed && digitsOf(one.phone) === digitsOf(phone));
      if (mine) mine.resume();
      if (!phone || isGoingOn(phone)) return;
      calls.filter((one) => one.isOver).forEach((one) => one.close());
      calls = calls.filter((one) => !one.isClosed);
      const begun = new Call(self, phone, call);
      calls.push(begun);
      begun.start();
    };

    this.callbacks = {
      render: () => {
        calls.forEach((one) => one.resume());
        return true;
      },
      init: () => {
        self.add_action("phone", (data) => call(String((data && data.value) || "").trim()));
        return true;
      },
      bind_actions: () => true,
      settings: () => true,
      onSave: () => true,
      destroy: () => {
        calls.forEach((one) => one.suspend());
        return true;
      },
    };
    return this;
  };
});
