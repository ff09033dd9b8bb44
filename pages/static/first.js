// What the index page shows before the scripts run gives way as soon as the page has the same to show.
{
  const first = document.getElementById("ph-first");
  // A browser may refuse to say what it keeps; the page must give way all the same.
  const stored = (() => {
    try {
      return { ...localStorage };
    } catch {
      return {};
    }
  })();
  const kept = stored[`stActiveTheme-${location.pathname}-v2`] ?? "";
  const scheme = /dark/i.test(kept) ? "dark" : /light/i.test(kept) ? "light" : "";
  if (first) {
    if (scheme) first.style.colorScheme = scheme;
    const away = ([name, value]) => name.startsWith("stSidebarCollapsed-") && value === "true";
    const width = Number.parseInt(stored.sidebarWidth ?? "", 10);
    const side = first.querySelector("nav");
    if (Object.entries(stored).some(away)) side.remove();
    else if (width) side.style.width = `${width}px`;
    // Whatever a run that is over has drawn is the page: a filter may have left nothing of what stands here.
    const over = '[data-test-script-state="notRunning"] .ph-crumb';
    const instead = [first.dataset.until, over, ".st-key-ended", ".st-key-failed", ".st-key-denied", '[role="dialog"]'];
    const shown = instead.map((one) => `body > :not(#ph-first) ${one}`).join(",");
    const gone = () => {
      watch.disconnect();
      first.remove();
    };
    const watch = new MutationObserver(() => {
      if (document.querySelector(shown)) gone();
    });
    watch.observe(document.body, { childList: true, subtree: true, attributeFilter: ["data-test-script-state"] });
    // A page that never comes must not look like one that is there: Streamlit says what is wrong.
    setTimeout(gone, 15000);
  }
}
