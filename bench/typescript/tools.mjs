// The three tools that every server of the benchmark offers, for a `McpServer` of either release.

import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

// `notifier` returns the function that sends a notification on a request's own stream, and the
// request's progress token, from what the release hands to a tool.
export function addTools(server, notifier) {
    const register = (name, fields, run) =>
        server.registerTool(name, { inputSchema: z.object(fields) }, async (args, extra) => ({
            content: [{ type: 'text', text: await run(args, reporter(notifier(extra))) }]
        }));
    register('echo', { text: z.string() }, async ({ text }) => text);
    register('emit', { n: z.number() }, async ({ n }, report) => {
        for (let step = 1; step <= n; step++) await report(step, n);
        return 'done';
    });
    register('paced', { n: z.number(), interval: z.number() }, async ({ n, interval }, report) => {
        for (let step = 1; step <= n; step++) {
            await sleep(interval * 1000);
            await report(step, n);
        }
        return 'done';
    });
    return server;
}

function reporter({ token, notify }) {
    return async (progress, total) => {
        if (token === undefined) return;
        const params = { progressToken: token, progress, total };
        await notify({ method: 'notifications/progress', params });
    };
}
